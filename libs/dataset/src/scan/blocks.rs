use std::{
    borrow::Cow,
    io::{Read, Seek},
    ops::ControlFlow,
};

use crate::{Error, ScanOptions, csv::Records};

/// Where text comes from.
pub(super) trait Input: Read + Seek + Send {}

impl<T: Read + Seek + Send> Input for T {}

/// Text read block by block and split into records, as [`Records`] splits all of it at once.
pub(super) struct Blocks {
    input: Box<dyn Input>,
    separator: u8,
    block_bytes: usize,
    record_bytes: usize,
    /// Text read; what comes before `at` has been visited.
    text: String,
    at: usize,
    /// The line of the file at `at`.
    line: usize,
    /// Of the block last read, a character whose rest is in the next.
    cut: Vec<u8>,
    read: u64,
    ended: bool,
}

impl Blocks {
    pub(super) fn new(input: Box<dyn Input>, options: &ScanOptions) -> Self {
        Self {
            input,
            separator: options.separator,
            block_bytes: options.block_bytes.max(1),
            record_bytes: options.record_bytes.max(1),
            text: String::new(),
            at: 0,
            line: 1,
            cut: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    /// Shows each record and the line on which it begins to `visit`, until that breaks off or the file ends. Going on
    /// after a break begins with the next record.
    ///
    /// # Errors
    /// Those of the file, of [`Records`], and of `visit`; a record longer than the limit.
    pub(super) fn visit(
        &mut self,
        mut visit: impl FnMut(&[Cow<'_, str>], usize) -> Result<ControlFlow<()>, Error>,
    ) -> Result<(), Error> {
        loop {
            if self.visit_block(&mut visit)?.is_break() || self.ended {
                return Ok(());
            }
            self.read_block()?;
        }
    }

    fn visit_block(
        &mut self,
        visit: &mut impl FnMut(&[Cow<'_, str>], usize) -> Result<ControlFlow<()>, Error>,
    ) -> Result<ControlFlow<()>, Error> {
        let start = self.at;
        let mut records = Records::from_line(&self.text[start..], self.separator, self.line);
        let mut fields = Vec::new();
        loop {
            let more = records.next_into(&mut fields);
            // What reaches the end of the block may go on in the next: it is read again when that is there.
            if !self.ended && records.at_end() || !more? {
                return Ok(ControlFlow::Continue(()));
            }
            let (length, line) = records.position();
            (self.at, self.line) = (start + length, line);
            if visit(&fields, records.record_line)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    /// Appends at least as much text as is left, so that a long record is not read again too often.
    fn read_block(&mut self) -> Result<(), Error> {
        self.text.drain(..self.at);
        self.at = 0;
        if self.text.len() > self.record_bytes {
            return Err(Error::LongRecord { line: self.line, limit: self.record_bytes });
        }
        let wanted = self.block_bytes.max(self.text.len()) as u64;
        let mut bytes = std::mem::take(&mut self.cut);
        let read = self.input.by_ref().take(wanted).read_to_end(&mut bytes);
        let read = read.map_err(Error::file("read the file"))? as u64;
        let at_start = self.text.is_empty() && self.read == bytes.len() as u64 - read;
        self.read += read;
        self.ended = read < wanted;
        let whole = self.whole_characters(&bytes)?;
        let text = if at_start { whole.strip_prefix('\u{feff}').unwrap_or(whole) } else { whole };
        self.text.push_str(text);
        self.cut = bytes[whole.len()..].to_vec();
        Ok(())
    }

    /// The bytes as text, without a character cut off at the end.
    fn whole_characters<'a>(&self, bytes: &'a [u8]) -> Result<&'a str, Error> {
        let error = match std::str::from_utf8(bytes) {
            Ok(text) => return Ok(text),
            Err(error) => error,
        };
        let good = &bytes[..error.valid_up_to()];
        if error.error_len().is_none() && !self.ended {
            return Ok(std::str::from_utf8(good).unwrap_or_default());
        }
        let lines = |bytes: &[u8]| bytes.iter().filter(|&&b| b == b'\n').count();
        Err(Error::NotUtf8 {
            line: self.line + lines(self.text.as_bytes()) + lines(good),
            offset: usize::try_from(self.read).unwrap_or(usize::MAX) - bytes.len() + good.len(),
        })
    }

    /// Begins again at the start of the file.
    ///
    /// # Errors
    /// The file is a pipe.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        self.input.rewind().map_err(Error::file("read the file a second time, as finding out its types takes"))?;
        self.text.clear();
        self.cut.clear();
        (self.at, self.line, self.read, self.ended) = (0, 1, 0, false);
        Ok(())
    }

    /// Bytes read since the start.
    pub(super) fn bytes_read(&self) -> u64 {
        self.read
    }

    /// Whether all that there is has been read, and is but white space.
    pub(super) fn is_blank(&self) -> bool {
        self.ended && self.text.trim().is_empty()
    }
}
