//! The `traceparent` of W3C Trace Context (<https://www.w3.org/TR/trace-context/>), as a row has it.
//!
//! In: any bytes. Out: the parent of a span, or nothing. It must stay true that what is no
//! traceparent is no error: the row may say what it wants, and its entry says the same.

/// Versions of the format end before this one.
const VERSION_INVALID: u128 = 0xff;
/// Somebody records this trace.
const SAMPLED: u8 = 1;

/// Whose child a span is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Never 0.
    pub trace_id: u128,
    /// Never 0.
    pub span_id: u64,
    /// As they are.
    pub flags: u8,
}

impl Parent {
    /// The parent that `text` names, if it is a traceparent of this version of the format, or of a
    /// later one that begins in the same way.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.splitn(5, '-');
        let version = hex(parts.next()?, 2)?;
        let parent = Self {
            trace_id: hex(parts.next()?, 32)?,
            span_id: u64::try_from(hex(parts.next()?, 16)?).ok()?,
            flags: u8::try_from(hex(parts.next()?, 2)?).ok()?,
        };
        let is_longer = parts.next().is_some();
        let is_known = version != VERSION_INVALID && (version > 0 || !is_longer);
        (is_known && parent.trace_id != 0 && parent.span_id != 0).then_some(parent)
    }

    /// Whether somebody records this trace.
    pub fn is_sampled(self) -> bool {
        self.flags & SAMPLED != 0
    }
}

/// So many lower-case digits; `from_str_radix` alone would take a sign and capitals as well.
fn hex(digits: &str, length: usize) -> Option<u128> {
    let is_digit = |digit: u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    let is_hex = digits.len() == length && digits.bytes().all(is_digit);
    is_hex.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_traceparent_is_read_as_its_format_says() {
        let text = format!("00-{TRACE}-{SPAN}-01");
        let parent = Parent::parse(text.as_bytes()).unwrap();
        assert_eq!(format!("{:032x}", parent.trace_id), TRACE);
        assert_eq!(format!("{:016x}", parent.span_id), SPAN);
        assert!(parent.is_sampled());
        for (text, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-00"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-02"), Some(false)),
            (format!("00-{TRACE}-{SPAN}-03"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01"), Some(true)),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), Some(true)),
            (format!("00-{TRACE}-{SPAN}-01-more"), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("00-{}-{SPAN}-01", TRACE.to_uppercase()), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{TRACE}-{SPAN}-01 "), None),
            (format!("00-{}-{SPAN}-01", "0".repeat(32)), None),
            (format!("00-{TRACE}-{}-01", "0".repeat(16)), None),
            (format!("00-+{}-{SPAN}-01", &TRACE[1..]), None),
            (String::new(), None),
            ("t2".to_owned(), None),
        ] {
            let parent = Parent::parse(text.as_bytes());
            assert_eq!(parent.map(Parent::is_sampled), is_sampled, "{text:?}");
        }
        assert_eq!(Parent::parse(b"00-\xff"), None);
    }
}
