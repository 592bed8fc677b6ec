use std::io::{self, BufReader, Read, Seek};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;

use super::blocks::Input;
use crate::Error;

/// The compression of a CSV file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
}

/// The largest window of zstd, as a power of two: 128 MiB, which is also the most that its tools accept by default.
const WINDOW_LOG: u32 = 27;

impl Compression {
    /// The compression that begins with these bytes.
    pub(super) fn of(opening: &[u8]) -> Option<Self> {
        match opening {
            [0x1f, 0x8b, ..] => Some(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }
}

/// The text of a compressed file, in as many members or frames as the file has. Memory does not depend on its size, compressed or
/// not: a decoder holds its window, and none is held before the first read.
pub(super) struct Compressed<R: Read> {
    compression: Compression,
    state: State<R>,
}

enum State<R: Read> {
    /// At the start of the file.
    Unread(R),
    Gzip(Box<MultiGzDecoder<BufReader<Counted<R>>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Counted<R>>>>),
    /// The decoder could not be made.
    Failed,
}

impl<R: Read> Compressed<R> {
    pub(super) fn new(input: R, compression: Compression) -> Self {
        Self { compression, state: State::Unread(input) }
    }

    fn start(&mut self) -> io::Result<()> {
        let State::Unread(input) = std::mem::replace(&mut self.state, State::Failed) else {
            return Err(io::Error::other("the decoder could not be made"));
        };
        let input = BufReader::new(Counted { input, read: 0 });
        self.state = match self.compression {
            Compression::Gzip => State::Gzip(Box::new(MultiGzDecoder::new(input))),
            Compression::Zstd => {
                let mut decoder = ZstdDecoder::with_buffer(input)?;
                decoder.window_log_max(WINDOW_LOG)?;
                State::Zstd(Box::new(decoder))
            }
        };
        Ok(())
    }
}

impl<R: Read> Read for Compressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.state {
            State::Gzip(decoder) => decoder.read(buffer),
            State::Zstd(decoder) => decoder.read(buffer),
            State::Unread(_) | State::Failed => {
                self.start()?;
                self.read(buffer)
            }
        }
    }
}

impl<R: Read + Seek + Send> Input for Compressed<R> {
    fn restart(&mut self) -> io::Result<()> {
        let mut input = match std::mem::replace(&mut self.state, State::Failed) {
            State::Unread(input) => input,
            State::Gzip(decoder) => decoder.into_inner().into_inner().input,
            State::Zstd(decoder) => decoder.finish().into_inner().input,
            State::Failed => return Err(io::Error::other("the decoder could not be made")),
        };
        input.rewind()?;
        self.state = State::Unread(input);
        Ok(())
    }

    fn consumed(&self) -> Option<u64> {
        Some(match &self.state {
            State::Gzip(decoder) => decoder.get_ref().get_ref().read,
            State::Zstd(decoder) => decoder.get_ref().get_ref().read,
            State::Unread(_) | State::Failed => 0,
        })
    }

    fn error(&self, source: io::Error) -> Error {
        Error::Compressed { compression: self.compression.name(), source }
    }
}

/// An input that counts what is read from it.
struct Counted<R> {
    input: R,
    read: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.read += read as u64;
        Ok(read)
    }
}
