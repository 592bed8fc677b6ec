//! Values of no meaning: a load needs rows of the right form only.

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;

use super::{Cell, Column, Datatype, Spec};

/// Different requests at most.
const REQUESTS: usize = 64;
/// Values at most, beyond the first request.
const VALUES: usize = 1 << 20;
/// Different texts.
const TEXTS: u32 = 8;

/// Columns for some requests of `rows` rows: integers from 0 to 99, numbers from -1 to 1, and eight short texts. Equal seeds give equal values.
pub(crate) fn generate(specs: Vec<Spec>, rows: usize, seed: u64) -> Vec<Column> {
    let width: usize = specs.iter().map(Spec::width).sum();
    let requests = (VALUES / rows.saturating_mul(width).max(1)).clamp(1, REQUESTS);
    let rows = rows * requests;
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let column = |spec: Spec| {
        let cells = (0..rows * spec.width()).map(|_| cell(spec.datatype, &mut random)).collect();
        Column { spec, cells }
    };
    specs.into_iter().map(column).collect()
}

fn cell(datatype: Datatype, random: &mut ChaCha8Rng) -> Cell {
    match datatype {
        Datatype::Bool => Cell::Boolean(random.random()),
        Datatype::Bytes => Cell::Text(format!("c{}", random.random_range(0..TEXTS))),
        // Exact in each of these types.
        Datatype::Fp16 | Datatype::Bf16 | Datatype::Fp32 | Datatype::Fp64 => {
            Cell::Number(f64::from(random.random_range(-128..=128)) / 128.0)
        }
        _ => Cell::Integer(random.random_range(0..100)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<Spec> {
        let spec = |name: &str, datatype, sizes: &[usize]| Spec {
            name: name.to_owned(),
            datatype,
            sizes: sizes.to_vec(),
            rows: None,
        };
        vec![
            spec("all", Datatype::Fp32, &[20]),
            spec("who", Datatype::Bytes, &[]),
            spec("small", Datatype::Int8, &[1]),
            spec("on", Datatype::Bool, &[1]),
        ]
    }

    #[test]
    fn values_fit_their_types_and_depend_on_the_seed_only() {
        let columns = generate(specs(), 30, 1);
        assert_eq!(columns.iter().map(|column| column.cells.len()).collect::<Vec<_>>(), [38_400, 1920, 1920, 1920]);
        assert_eq!(super::super::requests(&columns, 30, drop).expect("every value is accepted").len(), REQUESTS);
        assert_eq!(columns, generate(specs(), 30, 1));
        assert_ne!(columns, generate(specs(), 30, 2));
    }

    #[test]
    fn large_requests_are_few() {
        let columns = generate(specs(), 20_000, 1);
        assert_eq!(columns[1].cells.len(), 40_000, "two requests of 460,000 values each");
    }
}
