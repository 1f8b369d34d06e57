//! [`Regexp`]: a regular expression in Python's spelling, searched for anywhere in a path.
//!
//! `fancy-regex` gives what needs no look-around and no back reference to the linear engine of
//! `regex`, and backtracks for the rest. Both read nearly what Python reads; [`translated`]
//! rewrites what people use and they read otherwise. Three differences stay: `$` is the very end,
//! not also the place before a last newline; what only these engines know (`\p{L}`) is taken; and a
//! search that would backtrack for more than a million steps is given up, which counts as no match.

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
        let built = fancy_regex::RegexBuilder::new(&translated(pattern))
            .case_insensitive(ignore_case)
            .build();
        built
            .map(Self)
            .map_err(|cause| Error::Regexp { pattern: pattern.to_string(), cause: Box::new(cause) })
    }

    /// Returns whether the expression matches somewhere; `None` if that would take too long to find
    /// out.
    pub fn is_match(&self, path: &str) -> Option<bool> {
        self.0.is_match(path).ok()
    }
}

/// Rewrites Python's spelling:
///
/// | Python | here |
/// |---|---|
/// | `\Z` | `\z` |
/// | `\0`, `\141`, and in a class `\1`: a character by its octal number | `\x{61}` |
/// | `(?a)` and `(?a:...)`: `\w` `\d` `\s` `\b` know ASCII alone | these as classes, and the flag dropped |
/// | `(?u)`, which changes nothing | dropped |
/// | `\<` `\>` `\é` and other marks that need no escape | themselves |
/// | `[` `&` `~` `-` inside a class, where they are plain | escaped |
/// | `{` that begins no count | `\{` |
/// | `{,3}` | `{0,3}` |
fn translated(pattern: &str) -> String {
    let (mut out, mut rest) = (String::with_capacity(pattern.len()), pattern.chars().peekable());
    // Whether classes are those of ASCII: now, and behind each group that is open.
    let (mut is_ascii, mut outside) = (false, Vec::new());
    while let Some(c) = rest.next() {
        match c {
            '\\' => escape(&mut out, &mut rest, is_ascii, false),
            '[' => class(&mut out, &mut rest, is_ascii),
            '{' => out.push_str(&count(&mut rest)),
            '(' => {
                let flags = flags(&mut rest);
                let in_group = is_ascii || flags.contains('a');
                let kept: String = flags.chars().filter(|flag| !"au".contains(*flag)).collect();
                match (flags.is_empty(), rest.peek()) {
                    (false, Some(')')) => {
                        rest.next();
                        is_ascii = in_group;
                        out += &if kept.is_empty() { kept } else { format!("(?{kept})") };
                    }
                    (is_plain, _) => {
                        outside.push(std::mem::replace(&mut is_ascii, in_group));
                        out += &if is_plain { "(".to_string() } else { format!("(?{kept}") };
                    }
                }
            }
            ')' => {
                is_ascii = outside.pop().unwrap_or(is_ascii);
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

/// Takes the flags behind a `(`, with what switches others off; none if it is no group with flags.
fn flags(rest: &mut Peekable<Chars>) -> String {
    let flags: String = rest.clone().skip(1).take_while(|c| "aiLmsux-".contains(*c)).collect();
    let is_flagged =
        rest.peek() == Some(&'?') && matches!(rest.clone().nth(1 + flags.len()), Some(')' | ':'));
    if !is_flagged || flags.is_empty() {
        return String::new();
    }
    rest.nth(flags.len());
    flags
}

/// Translates what follows a backslash.
fn escape(out: &mut String, rest: &mut Peekable<Chars>, is_ascii: bool, is_in_class: bool) {
    if let Some(number) = octal(rest, is_in_class) {
        return *out += &format!("\\x{{{number:x}}}");
    }
    match rest.next() {
        Some('Z') => out.push_str("\\z"),
        Some(c @ ('<' | '>')) => out.push(c),
        Some(c @ ('w' | 'W' | 'd' | 'D' | 's' | 'S')) if is_ascii => {
            let inside = match c.to_ascii_lowercase() {
                'w' => "0-9A-Za-z_",
                'd' => "0-9",
                _ => " \\t\\n\\r\\x0b\\x0c",
            };
            *out += &format!("[{}{inside}]", if c.is_ascii_uppercase() { "^" } else { "" });
        }
        Some('b') if is_ascii && !is_in_class => {
            *out += "(?:(?<=[0-9A-Za-z_])(?![0-9A-Za-z_])|(?<![0-9A-Za-z_])(?=[0-9A-Za-z_]))"
        }
        Some('B') if is_ascii && !is_in_class => {
            *out += "(?:(?<=[0-9A-Za-z_])(?=[0-9A-Za-z_])|(?<![0-9A-Za-z_])(?![0-9A-Za-z_]))"
        }
        Some(c) if !c.is_ascii() || c == ' ' || c.is_ascii_control() => out.push(c),
        Some(c) => out.extend(['\\', c]),
        None => out.push('\\'),
    }
}

/// Takes an octal number behind a backslash: up to three digits if the first is 0 or this is a
/// class, else just three, since fewer are the number of a group.
fn octal(rest: &mut Peekable<Chars>, is_in_class: bool) -> Option<u32> {
    let digits: String = rest.clone().take(3).take_while(|c| c.is_digit(8)).collect();
    let is_octal =
        digits.len() == 3 || !digits.is_empty() && is_in_class || digits.starts_with('0');
    let number =
        u32::from_str_radix(&digits, 8).ok().filter(|number| is_octal && *number <= 0o377)?;
    rest.nth(digits.len() - 1);
    Some(number)
}

/// Translates a class, behind its `[`, to its end.
fn class(out: &mut String, rest: &mut Peekable<Chars>, is_ascii: bool) {
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
            '\\' => escape(out, rest, is_ascii, true),
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
            (r"(?a)^\w$", "é", false),
            (r"(?a)^[\w-]\d\S$", "-1é", true),
            (r"(?a)[\W]", "é", true),
            (r"(?a)é\bx", "éx", true),
            (r"é\bx", "éx", false),
            (r"(?ai)^A\w", "ab", true),
            (r"(?a:\w)\w$", "/é", false),
            (r"(?a:\w)\w$", "eé", true),
            (r"(?u)\w", "é", true),
            (r"(?:a(?a:b)\w)", "abé", true),
            (r"^\141\0577", "a/7", true),
            (r"^\0$", "\0", true),
            (r"[\141-\143]", "b", true),
            (r"[\1]", "\u{1}", true),
            (r"(a)\1\061", "aa1", true),
            (r"(a)?(?(1)b|c)$", "ab", true),
        ];
        for (pattern, path, expected) in cases {
            assert_eq!(is_match(pattern, path), expected, "{pattern} on {path:?}");
        }
    }

    #[test]
    fn bad_expressions_are_refused() {
        for bad in ["(", "[a", "*a", r"a\", r"\777", "(?L)a"] {
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
