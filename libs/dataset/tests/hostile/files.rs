//! Small Parquet files that claim much.

use std::io::Write as _;

use crate::thrift::{Value, encoded, list, varint, zigzag};

/// The most that a 32-bit count can claim.
const MOST: i64 = i32::MAX as i64;

const INT64: i64 = 2;
const TEXT: i64 = 6;

const PLAIN: i64 = 0;
const RLE: i64 = 3;
const DELTA_LENGTHS: i64 = 6;
const DELTA_TEXTS: i64 = 7;
const DICTIONARY: i64 = 8;

const UNCOMPRESSED: i64 = 0;
const GZIP: i64 = 2;
const BROTLI: i64 = 4;
const ZSTD: i64 = 6;

/// Each file with its name.
pub(crate) fn all() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        (
            "row groups",
            closed(b"PAR1".to_vec(), metadata(1, vec![root(1), leaf(TEXT)], Value::List(vec![], MOST as u64))),
        ),
        ("nesting", nested(60_000)),
        ("gzip", bomb(GZIP, gzip)),
        ("brotli", bomb(BROTLI, brotli)),
        ("dictionary", file(INT64, UNCOMPRESSED, 1, &[dictionary_page(MOST), data_page(DICTIONARY, 1, vec![1, 3, 0])])),
        ("lengths", file(TEXT, UNCOMPRESSED, 1, &[data_page(DELTA_LENGTHS, 1, lengths(MOST, 0))])),
        ("values", file(TEXT, UNCOMPRESSED, MOST, &[data_page(DELTA_LENGTHS, MOST, lengths(MOST, 0))])),
        ("prefixes", file(TEXT, UNCOMPRESSED, 8192, &[data_page(DELTA_TEXTS, 8192, prefixes(8192, 1 << 20))])),
        ("long texts", long_texts(64, 16 << 20)),
    ]
}

/// A page: what its header states as its size, the numbers in the header of its kind by field, and the bytes as they are stored.
struct Page {
    kind: i64,
    header: (u8, Vec<i64>),
    size: usize,
    stored: Vec<u8>,
}

fn data_page(encoding: i64, values: i64, bytes: Vec<u8>) -> Page {
    Page { kind: 0, header: (5, vec![values, encoding, RLE, RLE]), size: bytes.len(), stored: bytes }
}

fn dictionary_page(values: i64) -> Page {
    Page { kind: 2, header: (7, vec![values, PLAIN]), size: 8, stored: vec![0; 8] }
}

impl Page {
    fn bytes(&self) -> Vec<u8> {
        let (id, numbers) = &self.header;
        let own = (1..).zip(numbers).map(|(id, number)| (id, Value::I32(*number)));
        let mut bytes = encoded(vec![
            (1, Value::I32(self.kind)),
            (2, Value::I32(signed(self.size))),
            (3, Value::I32(signed(self.stored.len()))),
            (*id, Value::Struct(own.collect())),
        ]);
        bytes.extend_from_slice(&self.stored);
        bytes
    }
}

fn signed(size: usize) -> i64 {
    i64::try_from(size).expect("small")
}

/// A file of one required column.
fn file(physical: i64, codec: i64, rows: i64, pages: &[Page]) -> Vec<u8> {
    let mut bytes = b"PAR1".to_vec();
    pages.iter().for_each(|page| bytes.extend(page.bytes()));
    let length = signed(bytes.len() - 4);
    let is_dictionary = |page: &&Page| page.kind == 2;
    let data = 4 + pages.iter().take_while(is_dictionary).map(|page| signed(page.bytes().len())).sum::<i64>();
    let mut chunk = vec![
        (1, Value::I32(physical)),
        (2, list(vec![Value::I32(PLAIN)])),
        (3, list(vec![Value::Text(b"x")])),
        (4, Value::I32(codec)),
        (5, Value::I64(rows)),
        (6, Value::I64(length)),
        (7, Value::I64(length)),
        (9, Value::I64(data)),
    ];
    if data > 4 {
        chunk.push((11, Value::I64(4)));
    }
    let column = Value::Struct(vec![(2, Value::I64(4)), (3, Value::Struct(chunk))]);
    let group = vec![(1, list(vec![column])), (2, Value::I64(length)), (3, Value::I64(rows))];
    closed(bytes, metadata(rows, vec![root(1), leaf(physical)], list(vec![Value::Struct(group)])))
}

fn root(children: i64) -> Value {
    Value::Struct(vec![(4, Value::Text(b"root")), (5, Value::I32(children))])
}

fn leaf(physical: i64) -> Value {
    let mut fields = vec![(1, Value::I32(physical)), (3, Value::I32(0)), (4, Value::Text(b"x"))];
    if physical == TEXT {
        fields.push((6, Value::I32(0)));
    }
    Value::Struct(fields)
}

fn metadata(rows: i64, schema: Vec<Value>, groups: Value) -> Vec<u8> {
    encoded(vec![(1, Value::I32(1)), (2, list(schema)), (3, Value::I64(rows)), (4, groups)])
}

fn closed(mut bytes: Vec<u8>, metadata: Vec<u8>) -> Vec<u8> {
    bytes.extend_from_slice(&metadata);
    bytes.extend_from_slice(&(metadata.len() as u32).to_le_bytes());
    bytes.extend_from_slice(b"PAR1");
    bytes
}

/// Groups, each in the one before it.
fn nested(levels: usize) -> Vec<u8> {
    let group = || Value::Struct(vec![(3, Value::I32(0)), (4, Value::Text(b"g")), (5, Value::I32(1))]);
    let mut schema = vec![root(1)];
    schema.extend((0..levels).map(|_| group()));
    schema.push(leaf(INT64));
    closed(b"PAR1".to_vec(), metadata(1, schema, list(vec![])))
}

/// A page of a gigabyte of zeros whose header states a thousand bytes.
fn bomb(codec: i64, compress: impl FnOnce(usize) -> Vec<u8>) -> Vec<u8> {
    let page = Page { size: 1000, ..data_page(PLAIN, 1, compress(1 << 30)) };
    file(INT64, codec, 1, &[page])
}

fn gzip(zeros: usize) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    write_zeros(&mut encoder, zeros);
    encoder.finish().expect("compressed")
}

fn brotli(zeros: usize) -> Vec<u8> {
    let mut encoder = brotli::CompressorWriter::new(Vec::new(), 1 << 16, 1, 22);
    write_zeros(&mut encoder, zeros);
    encoder.into_inner()
}

fn write_zeros(to: &mut impl std::io::Write, zeros: usize) {
    let block = vec![0; 1 << 20];
    (0..zeros >> 20).for_each(|_| to.write_all(&block).expect("compressed"));
}

/// Lengths that are all the same, in one block: a few bytes, however many they are.
fn lengths(count: i64, length: i64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let block = count.cast_unsigned().next_multiple_of(128);
    [block, 1, count.cast_unsigned()].into_iter().for_each(|value| varint(value, &mut bytes));
    zigzag(length, &mut bytes);
    zigzag(0, &mut bytes);
    bytes.push(0);
    bytes
}

/// Texts that repeat the first: their prefixes are as long as it, and nothing follows.
fn prefixes(count: i64, length: i64) -> Vec<u8> {
    let one_then = |first: i64, then: i64| {
        let mut bytes = Vec::new();
        let block = count.cast_unsigned().next_multiple_of(128);
        [block, 1, count.cast_unsigned()].into_iter().for_each(|value| varint(value, &mut bytes));
        zigzag(first, &mut bytes);
        // The second differs from the first by `then - first`, and so does each from the one before: one bit a value tells which does.
        zigzag((then - first).min(0), &mut bytes);
        let width = u8::try_from(u64::BITS - (then - first).unsigned_abs().leading_zeros()).expect("few bits");
        bytes.push(width);
        let mut packed = vec![0_u8; (block * u64::from(width)).div_ceil(8) as usize];
        let delta = |index: usize| match (index, then > first) {
            (0, true) | (1.., false) => (then - first).unsigned_abs(),
            _ => 0,
        };
        for index in 0..count as usize - 1 {
            for bit in (0..usize::from(width)).filter(|bit| delta(index) >> bit & 1 == 1) {
                let at = index * usize::from(width) + bit;
                packed[at / 8] |= 1 << (at % 8);
            }
        }
        bytes.extend(packed);
        bytes
    };
    let mut bytes = one_then(0, length);
    bytes.extend(one_then(length, 0));
    bytes.extend(vec![b'a'; length as usize]);
    bytes
}

/// Texts of zeros, each in a page of its own.
fn long_texts(count: i64, length: usize) -> Vec<u8> {
    let mut text = (length as u32).to_le_bytes().to_vec();
    text.resize(4 + length, 0);
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).expect("an encoder");
    encoder.set_pledged_src_size(Some(text.len() as u64)).expect("known");
    encoder.write_all(&text).expect("compressed");
    let stored = encoder.finish().expect("compressed");
    let page = || Page { size: text.len(), stored: stored.clone(), ..data_page(PLAIN, 1, vec![]) };
    file(TEXT, ZSTD, count, &(0..count).map(|_| page()).collect::<Vec<_>>())
}
