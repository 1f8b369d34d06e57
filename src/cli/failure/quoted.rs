//! [`quoted`]: names as duplicity writes them for programs.

/// Returns a path or a name between single quotes, with what is not plain ASCII escaped as
/// duplicity does: code points as `\xe9`, `\u2026` or `\U0001f600`, bytes that are no UTF-8 as the
/// lone surrogates `\udc80` to `\udcff`.
///
/// Source: duplicity 0.8.22 and 3.2.1, tried.
pub fn quoted(name: &[u8]) -> String {
    let mut quoted = String::from("'");
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            quoted += &match (character, u32::from(character)) {
                ('\\', _) => "\\\\".to_string(),
                ('\n', _) => "\\n".into(),
                ('\t', _) => "\\t".into(),
                ('\r', _) => "\\r".into(),
                ('\'', _) => "\\x27".into(),
                (' '..='~', _) => character.into(),
                (_, number @ ..=0xff) => format!("\\x{number:02x}"),
                (_, number @ ..=0xffff) => format!("\\u{number:04x}"),
                (_, number) => format!("\\U{number:08x}"),
            };
        }
        chunk.invalid().iter().for_each(|byte| quoted += &format!("\\udc{byte:02x}"));
    }
    quoted + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first two are lines of both versions of duplicity; the others are what Python's
    /// `unicode_escape` makes of such names.
    #[test]
    fn names_are_quoted_as_duplicity_does() {
        for (name, expected) in [
            (&b"docs/sub/b 'q' \xc3\xa9"[..], r"'docs/sub/b \x27q\x27 \xe9'"),
            (b".", "'.'"),
            ("a…\\\n\u{1f600}\u{7f}".as_bytes(), r"'a\u2026\\\n\U0001f600\x7f'"),
            (b"\xff", r"'\udcff'"),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }
}
