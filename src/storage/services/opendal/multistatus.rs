//! Lists of WebDAV servers, as they are met: with names of any namespace prefix, and with addresses
//! that are paths or whole. OpenDAL takes for granted that each begins with the folder's path.
//!
//! Source: RFC 4918, sections 9.1, 14.16, 14.24; duplicity 0.8.22, webdavbackend.py, taste_href.

use super::service::of_time;
use crate::storage::Listed;
use opendal::raw::Timestamp;
use percent_encoding::percent_decode_str;
use quick_xml::events::Event;
use quick_xml::name::{Namespace, ResolveResult};
use quick_xml::reader::NsReader;
use reqwest::Url;

/// What a server says of one address.
#[derive(Default)]
struct Response {
    href: String,
    size: Option<u64>,
    modified: String,
    is_folder: bool,
}

/// Returns the files of a folder; `None` where the text is no list of it, which names the folder
/// itself, or lacks the size of a file. What lies elsewhere is left out, as are folders and names
/// that are not UTF-8.
pub fn files(text: &[u8], folder: &Url) -> Option<Vec<Listed>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut reader = NsReader::from_str(text);
    let (mut found, mut current, mut element) = (Vec::new(), Response::default(), String::new());
    let (mut is_whole, mut names_folder) = (false, false);
    loop {
        let (namespace, event) = reader.read_resolved_event().ok()?;
        let is_dav = namespace == ResolveResult::Bound(Namespace("DAV:"));
        match event {
            Event::Start(start) | Event::Empty(start) if is_dav => {
                element = start.local_name().as_ref().to_string();
                match element.as_str() {
                    "response" => current = Response::default(),
                    "collection" => current.is_folder = true,
                    _ => {}
                }
            }
            Event::Start(_) | Event::Empty(_) => element.clear(),
            Event::End(end) => {
                match end.local_name().as_ref() {
                    "response" if is_dav => {
                        let response = std::mem::take(&mut current);
                        names_folder |= response.is(folder);
                        found.extend(response.file(folder)?);
                    }
                    "multistatus" if is_dav => is_whole = true,
                    _ => {}
                }
                element.clear();
            }
            Event::Text(words) => current.take(&element, words.as_ref()),
            Event::CData(words) => current.take(&element, words.as_ref()),
            Event::GeneralRef(name) => {
                let name = name.as_ref();
                let known = quick_xml::escape::resolve_predefined_entity(name);
                let number = || {
                    let code = name.strip_prefix('#')?;
                    let code = match code.strip_prefix(['x', 'X']) {
                        Some(code) => u32::from_str_radix(code, 16),
                        None => code.parse(),
                    };
                    char::from_u32(code.ok()?).map(String::from)
                };
                current.take(&element, &known.map(String::from).or_else(number)?);
            }
            Event::Eof => return (is_whole && names_folder).then_some(found),
            _ => {}
        }
    }
}

impl Response {
    fn take(&mut self, element: &str, words: &str) {
        match element {
            "href" => self.href.push_str(words),
            "getcontentlength" => self.size = words.trim().parse().ok(),
            "getlastmodified" => self.modified.push_str(words),
            _ => {}
        }
    }

    /// Returns whether this is the folder itself.
    fn is(&self, folder: &Url) -> bool {
        let place = folder.join(self.href.trim()).ok();
        place.is_some_and(|place| {
            decoded(place.path().trim_end_matches('/'))
                == decoded(folder.path().trim_end_matches('/'))
        })
    }

    /// Returns the file that this is, if it is one of that folder; `None` where its size is missing.
    fn file(self, folder: &Url) -> Option<Option<Listed>> {
        if self.is_folder || self.is(folder) {
            return Some(None);
        }
        let Ok(place) = folder.join(self.href.trim()) else { return Some(None) };
        let Some((above, name)) = place.path().rsplit_once('/') else { return Some(None) };
        if decoded(above) != decoded(folder.path().trim_end_matches('/')) {
            return Some(None);
        }
        let Ok(name) = String::from_utf8(decoded(name)) else { return Some(None) };
        let size = self.size?;
        let modified = Timestamp::parse_rfc2822(self.modified.trim());
        let stamp = modified.map_or(0, |time| of_time(time, size));
        Some(Some(Listed { name, size, stamp }))
    }
}

fn decoded(path: &str) -> Vec<u8> {
    percent_decode_str(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Option<Vec<(String, u64)>> {
        let folder = Url::parse("http://host/a%20b/").unwrap();
        let files = files(text.as_bytes(), &folder)?;
        Some(files.into_iter().map(|file| (file.name, file.size)).collect())
    }

    /// Servers spell addresses and namespaces as they like.
    #[test]
    fn lists_of_servers() {
        let of = |href: &str, size: &str| {
            format!(
                "<x:response><x:href>{href}</x:href><x:propstat><x:prop>{size}<x:resourcetype/></x:prop></x:propstat></x:response>"
            )
        };
        let size = "<x:getcontentlength> 7 </x:getcontentlength>";
        let all = [
            of("/a%20b/one", size),
            of("http://host/a%20b/two%23&amp;", size),
            of("/a%20b/", "<x:getcontentlength/>")
                .replace("<x:resourcetype/>", "<x:resourcetype><x:collection/></x:resourcetype>"),
            of("/elsewhere/three", size),
            of("x", size),
        ];
        let text = format!(
            "<?xml version='1.0'?><x:multistatus xmlns:x='DAV:'>{}</x:multistatus>",
            all.concat()
        );
        let expected = ["one", "two#&", "x"].map(|name| (name.to_string(), 7));
        assert_eq!(names(&text).unwrap(), expected);
        assert_eq!(names("<html><body>hello</body></html>"), None);
        let cut = &text[..text.len() - 20];
        assert_eq!(names(cut), None, "a part of a list is none");
        let list =
            |inner: &str| names(&format!("<x:multistatus xmlns:x='DAV:'>{inner}</x:multistatus>"));
        let folder = of("http://host/a%20b", "");
        assert_eq!(list(&folder), Some(vec![]));
        assert_eq!(list(""), None, "a list names its folder");
        assert_eq!(list(&(folder + &of("/a%20b/of-unknown-size", ""))), None);
    }
}
