use std::{
    borrow::Cow,
    fs::File,
    io::{self, BufReader, Cursor, Read, Seek},
    ops::ControlFlow,
};

use bytes::Bytes;

use super::is_parquet;
use crate::{Error, ScanOptions, Section, csv::Records};

/// An input of text.
pub(crate) trait Input: Read + Send {
    /// Goes back to the start.
    fn restart(&mut self) -> io::Result<()>;

    /// Bytes of the file read, if that is not the text read.
    fn consumed(&self) -> Option<u64> {
        None
    }

    /// The error of a read.
    fn error(&self, source: io::Error) -> Error {
        Error::file("read the file")(source)
    }
}

impl Input for BufReader<File> {
    fn restart(&mut self) -> io::Result<()> {
        self.rewind()
    }
}

impl Input for Cursor<Bytes> {
    fn restart(&mut self) -> io::Result<()> {
        self.rewind()
    }
}

impl Input for Section {
    fn restart(&mut self) -> io::Result<()> {
        self.rewind()
    }
}

/// Text that is read block by block and split into records.
pub(super) struct Blocks {
    input: Box<dyn Input>,
    separator: u8,
    block_bytes: usize,
    record_bytes: usize,
    text_bytes: usize,
    /// Text read. Everything before `at` has been visited.
    text: String,
    at: usize,
    /// The line of the file at `at`.
    line: usize,
    /// The beginning of a character at the end of the last block.
    cut: Vec<u8>,
    read: u64,
    ended: bool,
}

impl Blocks {
    pub(super) fn new(input: Box<dyn Input>, options: &ScanOptions) -> Self {
        Self {
            input,
            separator: options.reading.separator,
            block_bytes: options.block_bytes.max(1),
            record_bytes: options.record_bytes.max(1),
            text_bytes: options.text_bytes,
            text: String::new(),
            at: 0,
            line: 1,
            cut: Vec::new(),
            read: 0,
            ended: false,
        }
    }

    /// Calls `visit` with each record and the line on which it begins, until it breaks or the file ends. The next call
    /// continues with the next record.
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
            // A record that reaches the end of the block may continue in the next. It is split again once that has been read.
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

    /// Appends at least as much text as remains, so that a long record is split only a logarithmic number of times.
    fn read_block(&mut self) -> Result<(), Error> {
        self.text.drain(..self.at);
        self.at = 0;
        if self.text.len() > self.record_bytes {
            return Err(Error::LongRecord { line: self.line, limit: self.record_bytes });
        }
        let length = self.block_bytes.max(self.text.len()) as u64;
        let mut bytes = std::mem::take(&mut self.cut);
        let read = self.input.by_ref().take(length).read_to_end(&mut bytes);
        let read = read.map_err(|source| self.input.error(source))? as u64;
        let at_start = self.text.is_empty() && self.read == bytes.len() as u64 - read;
        self.read += read;
        if self.read > self.text_bytes as u64 {
            return Err(Error::TooLarge { what: "bytes", limit: self.text_bytes });
        }
        self.ended = read < length;
        if at_start && self.input.consumed().is_some() && is_parquet(&bytes) {
            return Err(Error::CompressedParquet);
        }
        let whole = self.whole_characters(&bytes)?;
        let text = if at_start { whole.strip_prefix('\u{feff}').unwrap_or(whole) } else { whole };
        self.text.push_str(text);
        self.cut = bytes[whole.len()..].to_vec();
        Ok(())
    }

    /// The bytes as text, without an incomplete character at the end.
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

    /// Goes back to the start of the file and frees the text.
    ///
    /// # Errors
    /// The file is a pipe.
    pub(super) fn rewind(&mut self) -> Result<(), Error> {
        self.input.restart().map_err(Error::file("read the file a second time, which inferring its types requires"))?;
        self.text = String::new();
        self.cut.clear();
        (self.at, self.line, self.read, self.ended) = (0, 1, 0, false);
        Ok(())
    }

    /// Bytes of the file read since the start.
    pub(super) fn bytes_read(&self) -> u64 {
        self.input.consumed().unwrap_or(self.read)
    }

    /// Whether the whole file has been read and is only white space.
    pub(super) fn is_blank(&self) -> bool {
        self.ended && self.text.trim().is_empty()
    }
}
