//! Rows of files as the inputs of a model.

use anyhow::{Context as _, Result, bail, ensure};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_dataset::Table;
use serde_json::{Map, Value};

use super::{Cell, Column, Spec};

/// The columns of a table that are inputs, or all of them in order as the elements of the only input; `most` rows at most.
pub(crate) fn from_table(specs: Vec<Spec>, table: &Table, most: usize) -> Result<Vec<Column>> {
    let table = table.slice(0, table.rows().min(most));
    if let [spec] = &specs[..]
        && spec.width() > 1
    {
        let columns = table.batch.columns();
        let (name, width, found) = (&spec.name, spec.width(), columns.len());
        ensure!(found == width, "input {name:?} has {width} elements a row: the file has {found} columns");
        let columns = columns.iter().map(cells).collect::<Result<Vec<_>>>()?;
        let cells = (0..table.rows()).flat_map(|row| columns.iter().map(move |column| column[row].clone()));
        return Ok(vec![Column { cells: cells.collect(), spec: spec.clone() }]);
    }
    let column = |spec: Spec| {
        let (name, width) = (&spec.name, spec.width());
        ensure!(width == 1, "input {name:?} has {width} elements a row: give the rows as JSON");
        let column = table.column(name).with_context(|| format!("the model requires the input {name:?}"))?;
        Ok(Column { cells: cells(column)?, spec })
    };
    specs.into_iter().map(column).collect()
}

fn cells(column: &ArrayRef) -> Result<Vec<Cell>> {
    let value: Box<dyn Fn(usize) -> Cell> = match column.data_type() {
        DataType::Int64 => Box::new(|row| Cell::Integer(column.as_primitive::<Int64Type>().value(row))),
        DataType::Timestamp(..) => {
            Box::new(|row| Cell::Integer(column.as_primitive::<TimestampMillisecondType>().value(row)))
        }
        DataType::Float64 => Box::new(|row| Cell::Number(column.as_primitive::<Float64Type>().value(row))),
        DataType::Boolean => Box::new(|row| Cell::Boolean(column.as_boolean().value(row))),
        DataType::Utf8 => Box::new(|row| Cell::Text(column.as_string::<i32>().value(row).to_owned())),
        other => bail!("columns of type {other} are not supported"),
    };
    Ok((0..column.len()).map(|row| if column.is_null(row) { Cell::Missing } else { value(row) }).collect())
}

/// Rows as JSON, `most` at most: an array of objects, or one object per line, each with a value per input. The elements of an input with
/// several are an array.
pub(crate) fn from_json(specs: Vec<Spec>, text: &str, most: usize) -> Result<Vec<Column>> {
    let rows = parse(text)?;
    let mut columns: Vec<Column> = specs.into_iter().map(|spec| Column { spec, cells: Vec::new() }).collect();
    for (number, row) in rows.iter().take(most).enumerate() {
        for column in &mut columns {
            let name = &column.spec.name;
            let value =
                row.get(name).with_context(|| format!("row {number}: the model requires the input {name:?}"))?;
            let found = column.cells.len();
            flatten(value, &mut column.cells).with_context(|| format!("row {number}, input {name:?}"))?;
            let (width, found) = (column.spec.width(), column.cells.len() - found);
            ensure!(found == width, "row {number}, input {name:?}: has {found} elements: expected {width}");
        }
    }
    Ok(columns)
}

fn parse(text: &str) -> Result<Vec<Map<String, Value>>> {
    if text.trim_start().starts_with('[') {
        return serde_json::from_str(text).context("expected an array of objects, one per row");
    }
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("expected an array of objects, or one object per line")
}

fn flatten(value: &Value, out: &mut Vec<Cell>) -> Result<()> {
    out.push(match value {
        Value::Null => Cell::Missing,
        Value::Bool(value) => Cell::Boolean(*value),
        Value::String(text) => Cell::Text(text.clone()),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => Cell::Integer(integer),
            (None, Some(number)) => Cell::Number(number),
            (None, None) => bail!("{number} is too large"),
        },
        Value::Array(values) => return values.iter().try_for_each(|value| flatten(value, out)),
        Value::Object(_) => bail!("is an object: expected a value, or an array of values"),
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::inputs::Datatype;

    fn spec(name: &str, datatype: Datatype, sizes: &[usize]) -> Spec {
        Spec { name: name.to_owned(), datatype, sizes: sizes.to_vec(), rows: None }
    }

    fn table(csv: &str) -> Table {
        rekindle_dataset::read_csv(csv.as_bytes().to_vec().into()).expect("a table")
    }

    #[test]
    fn columns_are_inputs_by_name_or_all_of_one_in_order() {
        let table = table("a,b,c\n1,2.5,x\n3,,y\n");
        let named = vec![spec("c", Datatype::Bytes, &[]), spec("b", Datatype::Fp64, &[1])];
        let columns = from_table(named, &table, 9).expect("both are there");
        assert_eq!(columns[0].cells, [Cell::Text("x".into()), Cell::Text("y".into())]);
        assert_eq!(columns[1].cells, [Cell::Number(2.5), Cell::Missing]);

        let together = from_table(vec![spec("x", Datatype::Fp32, &[3])], &table, 1).expect("three columns");
        assert_eq!(together[0].cells, [Cell::Integer(1), Cell::Number(2.5), Cell::Text("x".into())], "of one row");
        for (wrong, word) in [
            (vec![spec("x", Datatype::Fp32, &[4])], "has 4 elements a row: the file has 3 columns"),
            (vec![spec("d", Datatype::Fp32, &[])], "requires the input \"d\""),
        ] {
            let refused = format!("{:#}", from_table(wrong, &table, 9).expect_err(word));
            assert!(refused.contains(word), "{refused}");
        }
    }

    #[test]
    fn rows_of_json_are_an_array_or_lines() {
        let specs = || vec![spec("a", Datatype::Int32, &[1]), spec("v", Datatype::Fp32, &[2])];
        let expected = [vec![Cell::Integer(1), Cell::Missing], [0.5, 1.5, 2.5, 3.5].map(Cell::Number).to_vec()];
        let lines = "{\"a\": 1, \"v\": [0.5, 1.5], \"unused\": 0}\n{\"a\": null, \"v\": [[2.5], [3.5]]}\n";
        let array = format!("[{}]", lines.trim().replace('\n', ","));
        for text in [lines, &array] {
            let columns = from_json(specs(), text, 9).expect("valid");
            assert_eq!(columns.into_iter().map(|column| column.cells).collect::<Vec<_>>(), expected, "{text}");
        }
        for (text, word) in [
            ("{\"a\": 1}", "requires the input \"v\""),
            ("{\"a\": 1, \"v\": [1]}", "has 1 elements: expected 2"),
            ("{\"a\": {}, \"v\": [1, 2]}", "is an object"),
            ("a,v", "one object per line"),
        ] {
            let refused = format!("{:#}", from_json(specs(), text, 9).expect_err(word));
            assert!(refused.contains(word), "{refused}");
        }
    }
}
