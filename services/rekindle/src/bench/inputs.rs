//! The rows of prediction requests, and the requests made of them, for models of any server of the protocol.

mod datatype;
mod generated;
mod rows;

use anyhow::{Context as _, Result, bail, ensure};
use rekindle_client::inference::{ModelMetadata, RawTensor, TensorMetadata};
use serde_json::{Value, json};

pub(crate) use self::{
    datatype::Datatype,
    generated::generate,
    rows::{from_json, from_table},
};

/// Different requests at most; they are sent in turn.
pub(crate) const REQUESTS: usize = 256;
/// Their elements in bytes, at most, beyond the first request.
const BYTES: usize = 64 << 20;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Missing,
    Boolean(bool),
    Integer(i64),
    Number(f64),
    Text(String),
}

/// An input of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Spec {
    pub name: String,
    pub datatype: Datatype,
    /// The sizes after the first, which is the number of rows. A size that varies is 1.
    pub sizes: Vec<usize>,
    /// The number of rows that the model requires; `None` if it varies.
    pub rows: Option<usize>,
}

/// An input with the values of all rows, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub spec: Spec,
    pub cells: Vec<Cell>,
}

/// A tensor of a request, in both of its forms.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub raw: RawTensor,
    /// The elements as JSON.
    pub data: Value,
}

impl Spec {
    /// The inputs that the metadata of a model declares.
    pub(crate) fn all(metadata: &ModelMetadata) -> Result<Vec<Self>> {
        ensure!(!metadata.inputs.is_empty(), "the metadata of {} names no inputs", metadata.name);
        metadata.inputs.iter().map(Self::of).collect()
    }

    fn of(metadata: &TensorMetadata) -> Result<Self> {
        let datatype = metadata.datatype.parse().with_context(|| format!("input {:?}", metadata.name))?;
        let size = |size: &i64| usize::try_from(*size).unwrap_or(1);
        let (first, rest) = metadata.shape.split_first().unwrap_or((&-1, &[]));
        let rows = usize::try_from(*first).ok();
        Ok(Self { name: metadata.name.clone(), datatype, sizes: rest.iter().map(size).collect(), rows })
    }

    /// Elements of one row.
    pub(crate) fn width(&self) -> usize {
        self.sizes.iter().product()
    }
}

/// Requests of `rows` rows each, in the order of the rows of the columns; the last one begins again with the first rows. `encode` takes the
/// tensors of a request.
pub(crate) fn requests<T>(columns: &[Column], rows: usize, encode: impl Fn(Vec<Tensor>) -> T) -> Result<Vec<T>> {
    let available = columns.iter().map(Column::rows).min().unwrap_or(0);
    ensure!(available > 0, "there are no rows");
    for Spec { name, rows: required, .. } in columns.iter().map(|column| &column.spec) {
        if let Some(required) = required.filter(|required| *required != rows) {
            bail!("input {name:?} has {required} rows, neither more nor fewer: set --rows {required}");
        }
    }
    let (mut requests, mut bytes) = (Vec::new(), 0);
    for first in (0..available.div_ceil(rows).min(REQUESTS)).map(|request| request * rows) {
        let rows: Vec<usize> = (first..first + rows).map(|row| row % available).collect();
        let tensors = columns.iter().map(|column| column.tensors(&rows)).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<Tensor> = tensors.into_iter().flatten().collect();
        bytes += tensors.iter().map(|tensor| tensor.raw.contents.len()).sum::<usize>();
        requests.push(encode(tensors));
        if bytes > BYTES {
            break;
        }
    }
    Ok(requests)
}

impl Column {
    fn rows(&self) -> usize {
        self.cells.len() / self.spec.width().max(1)
    }

    /// The tensor of those rows. A missing number is NaN and a missing text is empty; a missing value of another type has a placeholder, and a
    /// second tensor marks it.
    fn tensors(&self, rows: &[usize]) -> Result<Vec<Tensor>> {
        let Spec { name, datatype, sizes, .. } = &self.spec;
        let width = self.spec.width();
        let cells: Vec<&Cell> = rows.iter().flat_map(|row| &self.cells[row * width..(row + 1) * width]).collect();
        let shape = [rows.len()].into_iter().chain(sizes.iter().copied()).map(i64::try_from);
        let shape = shape.collect::<Result<Vec<_>, _>>().context("the shape of a tensor")?;
        let tensor = |name: &str, datatype: Datatype, cells: &[&Cell]| -> Result<Tensor> {
            let (mut contents, mut data) = (Vec::new(), Vec::new());
            for cell in cells {
                datatype.encode(cell, &mut contents).with_context(|| format!("input {name:?}"))?;
                data.push(datatype.json(cell));
            }
            let raw = RawTensor {
                name: name.to_owned(),
                datatype: datatype.name().to_owned(),
                shape: shape.clone(),
                contents: contents.into(),
            };
            Ok(Tensor { raw, data: json!(data) })
        };
        let mut tensors = vec![tensor(name, *datatype, &cells)?];
        if !datatype.has_missing() && cells.contains(&&Cell::Missing) {
            let valid: Vec<Cell> = cells.iter().map(|cell| Cell::Boolean(**cell != Cell::Missing)).collect();
            tensors.push(tensor(&format!("{name}.valid"), Datatype::Bool, &valid.iter().collect::<Vec<_>>())?);
        }
        Ok(tensors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(inputs: &[(&str, &str, &[i64])]) -> ModelMetadata {
        let input = |&(name, datatype, shape): &(&str, &str, &[i64])| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape: shape.to_vec(),
        };
        ModelMetadata {
            name: "m".to_owned(),
            versions: Vec::new(),
            platform: String::new(),
            inputs: inputs.iter().map(input).collect(),
            outputs: Vec::new(),
        }
    }

    fn column(shape: &[i64], datatype: &str, cells: Vec<Cell>) -> Column {
        let spec = Spec::all(&metadata(&[("x", datatype, shape)])).expect("valid").remove(0);
        Column { spec, cells }
    }

    fn requests(columns: &[Column], rows: usize) -> Result<Vec<Vec<Tensor>>> {
        super::requests(columns, rows, |tensors| tensors)
    }

    fn integers(values: impl IntoIterator<Item = i64>) -> Vec<Cell> {
        values.into_iter().map(Cell::Integer).collect()
    }

    #[test]
    fn rows_are_sent_in_order_and_the_last_request_begins_again() {
        let requests = requests(&[column(&[-1, 1], "INT16", integers([1, 2, 3]))], 2).expect("valid");
        let sent: Vec<_> = requests.iter().map(|tensors| &tensors[0]).collect();
        assert_eq!(sent.iter().map(|tensor| tensor.raw.shape.as_slice()).collect::<Vec<_>>(), [[2, 1], [2, 1]]);
        assert_eq!(
            sent.iter().map(|tensor| &tensor.raw.contents[..]).collect::<Vec<_>>(),
            [[1, 0, 2, 0], [3, 0, 1, 0]]
        );
        assert_eq!(sent[1].data, json!([3, 1]));
    }

    #[test]
    fn shapes_are_those_of_the_model() {
        for (shape, rows, expected) in [
            (&[-1][..], 2, vec![2]),
            (&[], 2, vec![2]),
            (&[-1, 3], 2, vec![2, 3]),
            (&[-1, 3, -1], 2, vec![2, 3, 1]),
            (&[2, 3], 2, vec![2, 3]),
        ] {
            let requests = requests(&[column(shape, "FP32", integers(0..6))], rows).expect("valid");
            assert_eq!(requests[0][0].raw.shape, expected, "{shape:?}");
        }
        let refused = requests(&[column(&[2, 3], "FP32", integers(0..6))], 1).expect_err("two rows");
        assert!(refused.to_string().contains("set --rows 2"), "{refused}");
    }

    #[test]
    fn missing_values_are_marked_where_the_type_has_none() {
        let cells = vec![Cell::Integer(7), Cell::Missing];
        let with_marks = requests(&[column(&[-1], "INT64", cells.clone())], 2).expect("valid");
        let [values, valid] = &with_marks[0][..] else { panic!("{with_marks:?}") };
        assert_eq!((values.data.clone(), valid.data.clone()), (json!([7, null]), json!([true, false])));
        assert_eq!((valid.raw.name.as_str(), &valid.raw.contents[..]), ("x.valid", &[1, 0][..]));
        let floats = requests(&[column(&[-1], "FP64", cells)], 2).expect("valid");
        assert_eq!((floats[0].len(), &floats[0][0].raw.contents[8..]), (1, &f64::NAN.to_le_bytes()[..]));
    }

    #[test]
    fn what_cannot_be_sent_is_named() {
        assert!(
            Spec::all(&metadata(&[("x", "COMPLEX64", &[-1])]))
                .is_err_and(|error| format!("{error:#}").contains("\"x\""))
        );
        assert!(Spec::all(&metadata(&[])).is_err());
        assert!(requests(&[column(&[-1], "INT8", integers([200]))], 1).is_err());
        assert!(requests(&[column(&[-1], "INT8", Vec::new())], 1).is_err());
    }
}
