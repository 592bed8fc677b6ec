use std::borrow::Cow;

use crate::Error;

/// Splits text into records and counts lines.
pub(crate) struct Records<'a> {
    text: &'a str,
    separator: u8,
    at: usize,
    line: usize,
    /// The line on which the last record began.
    pub(crate) record_line: usize,
}

impl<'a> Records<'a> {
    /// `separator` is the field delimiter, an ASCII character. The text begins at the start of a record, on line `line` of its file.
    pub(crate) fn from_line(text: &'a str, separator: u8, line: usize) -> Self {
        // Blank lines at the end are no rows.
        Self { text: text.trim_end_matches(['\r', '\n']), separator, at: 0, line, record_line: line }
    }

    /// The position: bytes of the text that have been split, and the current line.
    pub(crate) fn position(&self) -> (usize, usize) {
        (self.at, self.line)
    }

    /// Whether the last record or error depended on where the text ends, so that more text could change it.
    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.text.len()
    }

    /// Replaces `fields` with those of the next record; false at the end.
    pub(crate) fn next_into(&mut self, fields: &mut Vec<Cow<'a, str>>) -> Result<bool, Error> {
        fields.clear();
        if self.at >= self.text.len() {
            return Ok(false);
        }
        self.record_line = self.line;
        loop {
            let field = if self.text.as_bytes().get(self.at) == Some(&b'"') {
                self.quoted(fields.len() + 1)?
            } else {
                self.plain(fields.len() + 1)?
            };
            fields.push(field);
            if !self.separator() {
                return Ok(true);
            }
        }
    }

    /// Skips the delimiter after a field: true for a separator, false for the end of the line or the text.
    fn separator(&mut self) -> bool {
        let rest = &self.text.as_bytes()[self.at..];
        match rest {
            [byte, ..] if *byte == self.separator => self.at += 1,
            [b'\r', b'\n', ..] => self.at += 2,
            [b'\n', ..] => self.at += 1,
            _ => {}
        }
        let goes_on = rest.first() == Some(&self.separator);
        self.line += usize::from(!goes_on);
        goes_on
    }

    fn plain(&mut self, field: usize) -> Result<Cow<'a, str>, Error> {
        let rest = &self.text[self.at..];
        let end = rest.bytes().position(|b| b == self.separator || matches!(b, b'\n' | b'"')).unwrap_or(rest.len());
        if rest.as_bytes().get(end) == Some(&b'"') {
            let problem = "there is a quote inside an unquoted field";
            return Err(Error::Quote { line: self.line, field, problem });
        }
        let ends_line = rest.as_bytes().get(end) != Some(&self.separator);
        let value = if ends_line { rest[..end].strip_suffix('\r').unwrap_or(&rest[..end]) } else { &rest[..end] };
        self.at += value.len();
        Ok(Cow::Borrowed(value))
    }

    fn quoted(&mut self, field: usize) -> Result<Cow<'a, str>, Error> {
        let line = self.line;
        let wrong = |problem| Error::Quote { line, field, problem };
        let start = self.at + 1;
        let mut at = start;
        let mut doubled = false;
        let end = loop {
            let Some(quote) = self.text[at..].find('"').map(|quote| quote + at) else {
                self.at = self.text.len();
                return Err(wrong("the quoted field never ends"));
            };
            if self.text.as_bytes().get(quote + 1) != Some(&b'"') {
                break quote;
            }
            doubled = true;
            at = quote + 2;
        };
        let value = &self.text[start..end];
        self.line += value.bytes().filter(|&b| b == b'\n').count();
        self.at = end + 1;
        match self.text.as_bytes()[self.at..] {
            [] | [b'\n', ..] | [b'\r', b'\n', ..] => {}
            [byte, ..] if byte == self.separator => {}
            _ => return Err(wrong("there is text after the closing quote")),
        }
        Ok(if doubled { Cow::Owned(value.replace("\"\"", "\"")) } else { Cow::Borrowed(value) })
    }
}
