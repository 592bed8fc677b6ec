//! Digests that were computed before datasets were ingested by streaming: the same data keeps its digest. That of the sample changed when
//! not-a-number became a missing value.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use bytes::Bytes;
use chrono::DateTime;
use rekindle_dataset::{IngestOptions, Ingested, Table, content_digest, summarise, write_parquet};
use rekindle_domain::{
    ColumnKind, Digest,
    dataset::{FileFormat, SourceColumns},
};

use crate::support::{Input, ingested, options, read_all, table_of};

const SAMPLE: &str = "i,f,b,t,s\n1,0.1,true,2013-01-01,x\n,,,,\n3,nan,false,1969-12-31T23:59:59.999Z,é\n";

/// `rows` rows of every kind, out of order in time, with missing values, codes, long texts and repetitions.
fn mixed(rows: u64) -> String {
    let mut text = String::from("at,number,ratio,flag,code,word,void\n");
    for row in 0..rows {
        let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        let at = i64::try_from(1_356_998_400 + noise % 31_536_000).unwrap();
        let time = DateTime::from_timestamp(at, 0).unwrap().format("%Y-%m-%d %H:%M:%S");
        write!(text, "{time},").unwrap();
        if noise % 11 > 0 {
            write!(text, "{}", i64::try_from(noise).unwrap() % 1000 - 500).unwrap();
        }
        write!(text, ",").unwrap();
        if noise % 13 > 0 {
            write!(text, "{}", noise as f64 / 8.0).unwrap();
        }
        write!(text, ",{},0{},", noise % 3 == 0, noise % 40).unwrap();
        if noise % 17 > 0 {
            write!(text, "\"word {}, {}\"", noise % 5000, "x".repeat((noise % 7) as usize)).unwrap();
        }
        text.push_str(",\n");
    }
    text
}

fn file(path: &str, format: FileFormat) -> Input {
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)).unwrap();
    Input { bytes: Bytes::from(bytes), format }
}

/// The content digest and the digest of the Parquet file.
#[track_caller]
fn has(made: &Ingested, rows: u64, content: &str, parquet: &str) {
    assert_eq!(made.rows, rows);
    assert_eq!(made.content.to_string(), format!("sha256:{content}"));
    assert_eq!(Digest::of(&read_all(made)).to_string(), format!("sha256:{parquet}"));
    let table = table_of(made);
    assert_eq!(content_digest(&table), made.content);
    assert_eq!(write_parquet(&table).unwrap(), read_all(made));
}

#[test]
fn of_a_sample() {
    let content = "5476c8267bc189f5bdc76c982b05e43e0d4ec00228a70221cdaba70e11f96fe2";
    let parquet = "2ff11011200e85f06433fd74e673d875fcef83eaae458a8276a104a7ec3ddf6c";
    has(&ingested(&[Input::csv(SAMPLE)], &options()).unwrap(), 3, content, parquet);
}

#[test]
fn of_a_year_of_flights() {
    let flights = file("deploy/demo/flights_2013.parquet", FileFormat::Parquet);
    let options = IngestOptions { time_column: Some("timestamp".into()), ..options() };
    let content = "415aa735e7d129505f505eb1ac0e4a3568ddfa08677324b55219e79929740665";
    let parquet = "56b0eede3a744d3c163ee497bad56e20321107a757280874cf914af96f0e72c2";
    has(&ingested(&[flights], &options).unwrap(), 327_346, content, parquet);
}

#[test]
fn of_handwritten_digits() {
    let digits = file("integration-tests/data/digits_8x8.csv", FileFormat::Csv);
    let content = "afbddb466d5a45f7ff80385bb5f2532321cc3a805602c2b35a6676c0e56057d2";
    let parquet = "d3160caa0c55ca2599830e707b90d307c2564aa7aca4f9b6de03073a1ec14590";
    has(&ingested(&[digits], &options()).unwrap(), 1797, content, parquet);
}

#[test]
fn of_columns_of_every_kind_in_several_row_groups() {
    let text = mixed(300_000);
    let generated = "sha256:c138d137ef709668e426efe13d828df1424af147c4a904e986a69218827953ad";
    assert_eq!(Digest::of(text.as_bytes()).to_string(), generated, "the generator is unchanged");
    let content = "3bde3de6ab498588a8a1faa9be4e166bdf70341e85d4ca7698d14ee2eb161353";
    let parquet = "a94df2fffe7cb52853ef677e448d582b56ca8a85a2c77b2844ad759c13bcc51f";
    has(&ingested(&[Input::csv(&text)], &options()).unwrap(), 300_000, content, parquet);

    let kinds = [("code", ColumnKind::Numeric), ("number", ColumnKind::Categorical)];
    let kinds: BTreeMap<String, ColumnKind> = kinds.map(|(name, kind)| (name.to_owned(), kind)).into();
    let (from, until) = (DateTime::from_timestamp(1_360_000_000, 0), DateTime::from_timestamp(1_380_000_000, 0));
    let arranged = IngestOptions { kinds, time_column: Some("at".into()), from, until, ..options() };
    let made = ingested(&[Input::csv(&text)], &arranged).unwrap();
    let content = "944b005d77fd6a71e89b80782950c7ef3a3782648db84aa7a312ee6b6497a70c";
    let parquet = "a51e41b8fa2b75e510389e35d539ffaa423964974fe4ab785c5e1c91d8c89999";
    has(&made, 189_990, content, parquet);
    summaries_are_as_before(&made, &table_of(&made));
}

fn summaries_are_as_before(made: &Ingested, table: &Table) {
    let close = |found: Option<f64>, expected: f64| (found.unwrap() / expected - 1.0).abs() < 1e-13;
    for summaries in [&made.summaries, &summarise(table)] {
        let of = |name: &str| summaries.iter().find(|summary| summary.name == name).unwrap();
        let distinct: Vec<_> = summaries.iter().map(|summary| (summary.missing, summary.distinct)).collect();
        let expected =
            [(0, 189_990), (17_303, 1000), (14_621, 175_369), (0, 2), (0, 40), (11_193, 34_920), (189_990, 0)];
        assert_eq!(distinct, expected);
        let ratio = of("ratio");
        assert_eq!((ratio.min, ratio.max), (Some(375_854.625), Some(268_434_467.0)));
        assert!(close(ratio.mean, 133_688_325.879_427_57) && close(ratio.std, 77_383_505.415_786_06), "{ratio:?}");
        assert!(close(of("at").std, 5_773_453_182.336_737) && close(of("code").mean, 19.505_189_746_828_97));
        let top = |name: &str, place: usize| (of(name).top[place].value.as_str(), of(name).top[place].count);
        assert_eq!((top("number", 0), top("number", 9)), (("170", 233), ("-224", 227)));
        assert_eq!((top("word", 0), top("at", 0)), (("word 1074, xxx", 12), ("2013-02-04T18:00:59Z", 1)));
    }
}

#[test]
fn of_joined_sources() {
    let first = Input::csv("number,at,word,extra\n1.5,2013-01-01T00:00:00Z,a,1\n,,,\n");
    let second = Input::csv(&mixed(1000));
    let parquet = Input { bytes: write_parquet(&second.table().unwrap()).unwrap(), format: FileFormat::Parquet };
    for second in [second, parquet] {
        let options = IngestOptions { columns: SourceColumns::Common, ..options() };
        let made = ingested(&[first.clone(), second], &options).unwrap();
        let content = "ec3fd03e093fb1160595d8ccd54763474884977aba6d0d58aeda7ac8550fd6b6";
        let parquet = "fe522b6fa67b4f0ac82e0b2cd448003eef0a2d93e0e892ef9387ac51a85ed48a";
        has(&made, 1002, content, parquet);
    }
}
