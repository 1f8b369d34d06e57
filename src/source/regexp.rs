//! [`Regexp`]: a regular expression in Python's spelling, searched for anywhere in a path.
//!
//! `fancy-regex` gives what needs no look-around and no back reference to the linear engine of `regex`, and backtracks for the rest.
//! Both read nearly what Python reads; [`translated`] rewrites what people use and they read otherwise. Three differences stay: `$` is the
//! very end, not also the place before a last newline; what only these engines know (`\p{L}`) is taken; and a search that would
//! backtrack for more than a million steps is given up, which counts as no match.

use super::Error;
use std::iter::Peekable;
use std::str::Chars;

/// A compiled expression.
#[derive(Debug)]
pub struct Regexp(fancy_regex::Regex);

impl Regexp {
    /// Compiles an expression.
    ///
    /// # Errors
    /// [`Error::Regexp`] if it does not compile.
    pub fn new(pattern: &str, ignore_case: bool) -> Result<Self, Error> {
        let built = fancy_regex::RegexBuilder::new(&translated(pattern)).case_insensitive(ignore_case).build();
        built.map(Self).map_err(|cause| Error::Regexp { pattern: pattern.to_string(), cause: Box::new(cause) })
    }

    /// Tells whether the expression matches somewhere; `None` if that would take too long to find out.
    pub fn is_match(&self, path: &str) -> Option<bool> {
        self.0.is_match(path).ok()
    }
}

/// Rewrites Python's spelling:
///
/// | Python | here |
/// |---|---|
/// | `\Z` | `\z` |
/// | `\<` `\>` `\é` and other marks that need no escape | themselves |
/// | `[` `&` `~` `-` inside a class, where they are plain | escaped |
/// | `{` that begins no count | `\{` |
/// | `{,3}` | `{0,3}` |
fn translated(pattern: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(pattern.len()), pattern.chars().peekable());
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut out, &mut rest),
            '[' => class(&mut out, &mut rest),
            '{' => out.push_str(&count(&mut rest)),
            _ => out.push(c),
        }
    }
    out
}

/// Translates what follows a backslash.
fn escape(out: &mut String, rest: &mut Peekable<Chars>) {
    match rest.next() {
        Some('Z') => out.push_str("\\z"),
        Some(c @ ('<' | '>')) => out.push(c),
        Some(c) if !c.is_ascii() || c == ' ' || c.is_ascii_control() => out.push(c),
        Some(c) => out.extend(['\\', c]),
        None => out.push('\\'),
    }
}

/// Translates a class, behind its `[`, to its end.
fn class(out: &mut String, rest: &mut Peekable<Chars>) {
    out.push('[');
    if rest.next_if_eq(&'^').is_some() {
        out.push('^');
    }
    if rest.next_if_eq(&']').is_some() {
        out.push_str("\\]");
    }
    while let Some(c) = rest.next() {
        match c {
            ']' => return out.push(c),
            '\\' => escape(out, rest),
            '[' | '&' | '~' => out.extend(['\\', c]),
            // A second `-` in a row is a plain one, which must not read as a difference of classes.
            '-' if out.ends_with('-') => out.push_str("\\-"),
            _ => out.push(c),
        }
    }
}

/// Translates what follows a `{`: a count if it is one, else the brace alone.
fn count(rest: &mut Peekable<Chars>) -> String {
    let inside: String = rest.clone().take_while(|&c| c.is_ascii_digit() || c == ',').collect();
    let is_closed = rest.clone().nth(inside.len()) == Some('}');
    if !is_closed || inside.is_empty() || inside.matches(',').count() > 1 {
        return "\\{".into();
    }
    rest.nth(inside.len());
    let from = if inside.starts_with(',') { "0" } else { "" };
    format!("{{{from}{inside}}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_match(pattern: &str, path: &str) -> bool {
        Regexp::new(pattern, false).unwrap().is_match(path).unwrap()
    }

    /// What Python 3.11's `re.search` says of the same.
    #[test]
    fn python_spellings() {
        let cases = [
            (r"[0-9]{7}(?!foo)", "/s/1234567bar", true),
            (r"[0-9]{7}(?!foo)", "/s/1234567foo", false),
            (r"(?<=/)x$", "/s/x", true),
            (r"(?P<name>ab)(?P=name)", "/s/abab", true),
            (r"(.)\1", "/s/aa", true),
            (r"\A/s\Z", "/s", true),
            (r"(?i)/S/A", "/s/a", true),
            (r"/a(/|$)", "/s/a", true),
            (r"s.a", "s\na", false),
            (r"(?s)s.a", "s\na", true),
            (r"^a", "/a", false),
            (r"x{,2}y", "/xy", true),
            (r"x{1", "x{1", true),
            (r"{x}", "{x}", true),
            (r"a\<b\>\ ", "a<b> ", true),
            (r"[[a]", "[", true),
            (r"[a&&b]", "&", true),
            (r"[+--]", "-", true),
            (r"[]x]", "]", true),
            (r"[^]x]", "]", false),
            (r"\d\w\s", "1é ", true),
            (r"(?#note)a", "a", true),
            (r"(?:a++)b", "aab", true),
            (r"(?>a+)ab", "aab", false),
            (r"\é", "é", true),
            (r"(a)?(?(1)b|c)$", "ab", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(is_match(pattern, path), expected, "{pattern} on {path:?}");
        }
    }

    #[test]
    fn bad_expressions_are_refused() {
        for bad in ["(", "[a", "*a", r"a\"] {
            let error = Regexp::new(bad, false).unwrap_err();
            assert_eq!(error.to_string(), format!("Error compiling regular expression {bad}"));
        }
    }

    #[test]
    fn a_search_without_end_is_given_up() {
        let endless = Regexp::new(r"^(a|a?)+\1(?!b)c$", false).unwrap();
        assert_eq!(endless.is_match(&"a".repeat(40)), None);
    }
}
