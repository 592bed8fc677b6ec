//! Writes the files that `scripts/bench-register.sh` registers.
//!
//! usage: large_files csv PATH MEGABYTES    rows out of order in time, with a distinct text in each
//!        large_files repeated PATH         Parquet of one text repeated 10^8 times

use std::{
    error::Error,
    fs::File,
    io::{BufWriter, Write as _},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, DictionaryArray, RecordBatch, StringArray},
    datatypes::Int32Type,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    file::properties::WriterProperties,
};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["csv", path, megabytes] => csv(File::create(path)?, megabytes.parse::<u64>()? * 1_000_000),
        ["repeated", path] => repeated(File::create(path)?),
        _ => Err("usage: large_files csv PATH MEGABYTES | repeated PATH".into()),
    }
}

fn csv(file: File, size: u64) -> Result<(), Box<dyn Error>> {
    let mut file = BufWriter::with_capacity(1 << 20, file);
    file.write_all(b"at,number,ratio,word,label\n")?;
    let (mut written, mut row) = (0, 0_u64);
    while written < size {
        let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (hour, minute, second) = (noise % 24, noise / 24 % 60, noise / 1440 % 60);
        let (month, day) = (noise % 12 + 1, noise % 28 + 1);
        let (number, ratio, label) = (noise % 1000, noise as f64 / 4096.0, noise % 2);
        let line = format!(
            "2013-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02},{number},{ratio:.3},word-{noise:x},{label}\n"
        );
        file.write_all(line.as_bytes())?;
        (written, row) = (written + line.len() as u64, row + 1);
    }
    Ok(file.flush()?)
}

fn repeated(file: File) -> Result<(), Box<dyn Error>> {
    const GROUP: usize = 1_000_000;
    let text: ArrayRef = Arc::new(StringArray::from(vec!["a text that repeats"]));
    let texts = DictionaryArray::<Int32Type>::new(vec![0; GROUP].into(), text);
    let batch = RecordBatch::try_from_iter([("text", Arc::new(texts) as ArrayRef)])?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(GROUP))
        .build();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties))?;
    for _ in 0..100 {
        writer.write(&batch)?;
    }
    writer.close()?;
    Ok(())
}
