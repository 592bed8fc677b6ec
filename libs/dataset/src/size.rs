use arrow::{
    array::{AsArray as _, RecordBatch},
    datatypes::DataType,
};

/// Bytes of the values of some rows of a batch of canonical types. They depend on the values only, not on how arrays hold them.
pub(crate) fn rows_bytes(batch: &RecordBatch, from: usize, rows: usize) -> usize {
    let column = |array: &arrow::array::ArrayRef| match array.data_type() {
        DataType::Boolean => rows,
        DataType::Utf8 => {
            let offsets = array.as_string::<i32>().value_offsets();
            let text = offsets[from + rows].abs_diff(offsets[from]) as usize;
            text + rows * size_of::<i32>()
        }
        _ => rows * size_of::<i64>(),
    };
    batch.columns().iter().map(column).sum()
}

/// How many rows of a batch, from row `from` on, fit into `bytes`: those before the first that exceeds them, and that one. At least
/// one, and at most `rows`.
pub(crate) fn rows_filling(batch: &RecordBatch, from: usize, rows: usize, bytes: usize) -> usize {
    let (mut low, mut high) = (1, rows);
    while low < high {
        let middle = low.midpoint(high);
        if rows_bytes(batch, from, middle) >= bytes {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}
