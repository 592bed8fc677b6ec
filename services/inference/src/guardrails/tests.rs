use arrow::{
    array::StringArray,
    datatypes::{DataType, Field, Schema},
};
use rekindle_domain::Task;

use super::*;

fn signature() -> Signature {
    let input = |name: &str, datatype, kind| Input { name: name.to_owned(), datatype, kind, nullable: true };
    Signature {
        inputs: vec![
            input("distance", Datatype::Fp64, ColumnKind::Numeric),
            input("seats", Datatype::Int64, ColumnKind::Numeric),
            input("carrier", Datatype::Bytes, ColumnKind::Categorical),
        ],
        outputs: Output::of_task(Task::Binary, 2),
        time_input: None,
    }
}

fn rows(distance: &[Option<f64>], seats: &[Option<i64>], carrier: &[Option<&str>]) -> RecordBatch {
    let fields =
        signature().inputs.iter().map(|input| Field::new(&input.name, input.arrow_type(), true)).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Float64Array::from(distance.to_vec())),
        Arc::new(Int64Array::from(seats.to_vec())),
        Arc::new(StringArray::from(carrier.to_vec())),
    ];
    assert_eq!(fields[0].data_type(), &DataType::Float64);
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns")
}

fn config(toml: &str) -> ModelGuardrails {
    #[derive(serde::Deserialize)]
    struct File {
        guardrails: ModelGuardrails,
    }
    let file = format!("[guardrails]\nmodel = \"flights\"\n{toml}");
    rekindle_runtime::config::Layers::new(&file).parse::<File>().expect("valid").guardrails
}

fn guardrails(toml: &str) -> Result<Guardrails, String> {
    let known = rows(&[Some(1.0), Some(2.0)], &[Some(1), Some(2)], &[Some("AA"), Some("UA")]);
    let reference =
        Reference::of(Task::Binary, &signature(), &known, &prediction(&[0.5, 0.5]), None).expect("a reference");
    Guardrails::new(&"flights".parse().expect("a name"), &config(toml), &signature(), &reference)
}

fn prediction(probabilities: &[f32]) -> Prediction {
    Prediction { rows: probabilities.len(), outputs: vec![Values::Fp32 { width: 1, values: probabilities.to_vec() }] }
}

fn texts(hits: &Hits, rows: usize) -> Vec<Option<String>> {
    hits.column(rows).expect("hits").iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn values_outside_are_clipped_and_named_per_row() {
    let guardrails = guardrails(
        r#"inputs = [{ name = "distance", min = 0.0, max = 10.0, action = "clip" }, { name = "seats", max = 4.5, action = "clip" }]"#,
    );
    let given = rows(&[Some(-1.0), Some(5.0), None], &[Some(9), Some(4), None], &[None; 3]);
    let mut hits = Hits::default();
    let checked = guardrails.expect("valid").check_inputs(&given, &mut hits).expect("accepted");
    assert_eq!(checked.expect("others"), rows(&[Some(0.0), Some(5.0), None], &[Some(4), Some(4), None], &[None; 3]));
    assert_eq!(texts(&hits, 3), [Some("inputs[distance] range clip, inputs[seats] range clip".to_owned()), None, None]);
    let summary: serde_json::Value = serde_json::from_str(&hits.summary().expect("hits")).expect("JSON");
    assert_eq!(summary["hits"], 2);
    let first = serde_json::json!({ "row": 0, "name": "inputs[distance]", "rule": "range", "action": "clip" });
    assert_eq!(summary["first"][0], first);
}

#[test]
fn missing_and_unseen_values_are_flagged_and_change_nothing() {
    let guardrails = guardrails("missing_values = \"flag\"\nunseen_categories = \"flag\"").expect("valid");
    let given = rows(&[Some(1e9), None], &[Some(1), Some(2)], &[Some("AA"), Some("ZZ")]);
    let mut hits = Hits::default();
    assert_eq!(guardrails.check_inputs(&given, &mut hits).expect("accepted"), None);
    let expected = "inputs[distance] missing flag, inputs[carrier] unseen flag";
    assert_eq!(texts(&hits, 2), [None, Some(expected.to_owned())]);
}

#[test]
fn a_refusal_names_the_row_the_value_and_what_is_allowed() {
    for (toml, field, problem) in [
        (
            r#"inputs = [{ name = "seats", min = 2.0, action = "reject" }]"#,
            "inputs[seats]",
            "row 1 is 1, which the guardrail refuses: it allows at least 2",
        ),
        ("missing_values = \"reject\"", "inputs[carrier]", "row 0 is missing"),
        (
            "unseen_categories = \"reject\"",
            "inputs[carrier]",
            "row 1 is a category that the guardrail refuses: it is none of the 2",
        ),
    ] {
        let given = rows(&[Some(1.0), Some(2.0)], &[Some(3), Some(1)], &[None, Some("ZZ")]);
        let refused = guardrails(toml).expect("valid").check_inputs(&given, &mut Hits::default()).expect_err("refused");
        assert_eq!(refused.field, field);
        assert!(refused.problem.contains(problem), "{refused}");
    }
}

#[test]
fn outputs_are_clipped_flagged_or_refused() {
    let of = |action: &str| {
        let toml = format!(r#"outputs = [{{ name = "probability", min = 0.25, max = 0.75, action = "{action}" }}]"#);
        let (mut hits, given) = (Hits::default(), prediction(&[0.5, 1.0]));
        (guardrails(&toml).expect("valid").check_outputs(&given, &mut hits), hits)
    };
    let (clipped, hits) = of("clip");
    assert_eq!(clipped, Ok(Some(prediction(&[0.5, 0.75]))));
    assert_eq!(texts(&hits, 2), [None, Some("outputs[probability] range clip".to_owned())]);
    let (flagged, hits) = of("flag");
    assert_eq!(flagged, Ok(None));
    assert_eq!(texts(&hits, 2), [None, Some("outputs[probability] range flag".to_owned())]);
    let refused = of("reject").0.expect_err("refused").to_string();
    assert_eq!(refused, "outputs[probability]: row 1 is 1, which the guardrail refuses: it allows 0.25 to 0.75");
}

#[test]
fn a_guardrail_of_what_the_version_does_not_have_is_an_error() {
    let none = guardrails(r#"inputs = [{ name = "seats", min = 0.2, max = 0.8, action = "clip" }]"#).expect_err("none");
    assert!(none.contains("no whole number is within 0.2 to 0.8"), "{none}");
    for (part, name) in [("inputs", "carrier"), ("inputs", "speed"), ("outputs", "label"), ("outputs", "distance")] {
        let toml = format!(r#"{part} = [{{ name = "{name}", max = 1.0, action = "flag" }}]"#);
        let problem = guardrails(&toml).expect_err("not a numeric one");
        assert!(problem.starts_with(&format!("guardrail {part}[{name}]")), "{problem}");
    }
}
