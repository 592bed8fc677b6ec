//! Memory of uploading and registering a file does not grow with it. One test, because the peak is that of the process.

#[path = "../registry/sandbox.rs"]
#[expect(dead_code, reason = "other tests use the rest of it")]
mod sandbox;

use rekindle_proto::registry::{FileFormat, Source, UploadPurpose, UploadRequest};

use self::sandbox::Sandbox;

/// The size of the file in bytes.
const SIZE: usize = 100 << 20;

/// The bound on the growth of the peak, of the client and the server together.
const GROWTH: u64 = 250 << 20;

/// The peak resident memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
}

/// A CSV file in chunks: rows out of order in time, with a distinct text in each.
fn chunks() -> impl Iterator<Item = Vec<u8>> {
    let header = b"at,number,ratio,word\n".to_vec();
    let rows = (0_u64..).map(|row| {
        let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (month, day, hour) = (noise % 12 + 1, noise % 28 + 1, noise % 24);
        format!(
            "2013-{month:02}-{day:02} {hour:02}:00:00,{},{:.3},word-{noise:x}\n",
            noise % 1000,
            noise as f64 / 4096.0
        )
    });
    let mut rows = rows.map(String::into_bytes);
    let mut size = 0;
    std::iter::once(header).chain(std::iter::from_fn(move || {
        let mut chunk = Vec::new();
        while chunk.len() < 500_000 {
            chunk.extend(rows.next()?);
        }
        size += chunk.len();
        (size < SIZE).then_some(chunk)
    }))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_csv_of_100_mb_takes_bounded_memory() {
    let sandbox = Sandbox::on_sqlite().await;
    let mut request = sandbox.csv("large", "").await;
    let before = peak();
    let purpose = UploadPurpose::DatasetSource.into();
    let messages = chunks().map(move |chunk| UploadRequest { chunk: chunk.into(), purpose });
    let stored = sandbox.blobs.clone().upload(futures::stream::iter(messages)).await.expect("stored").into_inner();
    request.sources = vec![Source { digest: stored.digest, format: FileFormat::Csv.into() }];
    request.time_column = "at".into();
    let made = sandbox.dataset(request).await;
    let grown = peak() - before;
    println!("{} rows of {} bytes, the peak grew by {} MiB", made.rows, stored.size, grown >> 20);
    assert!(made.rows > 1_000_000 && stored.size > 99 << 20);
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown >> 20);
}
