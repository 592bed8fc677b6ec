//! Models in the ONNX format, from the file to the prediction.

use rekindle_testkit::onnx_file;
use serde_json::Value;

use crate::world::World;

/// `models import`, and the answers of an imported model.
pub(crate) fn imports(world: &World) {
    world.write("sensors.csv", sensors());
    world.text(&["dataset", "register", "sensors", "sensors.csv"]);
    world.write("model.onnx", onnx_file("sklearn_logistic.onnx"));
    let import = ["models", "import", "imported", "model.onnx", "--target", "late", "--dataset", "sensors@1"];
    let named = [&import[..], &["--ignore", "id", "--description", "from scikit-learn"]].concat();
    let first = world.text(&named);
    assert!(first.contains("imported version 1") && first.contains("ready"), "{first}");
    let second = world.json(&named);
    assert_eq!((&second["version"], &second["status"]), (&2.into(), &"VERSION_STATUS_READY".into()), "{second}");
    let refused = world.error(1, &import);
    assert!(refused.contains("--features: are 5 (id, f0, f1, f2, f3), and the file takes 4"), "{refused}");
    world.write("zipmap.onnx", onnx_file("refused/zipmap.onnx"));
    let refused = world.error(1, &["models", "import", "imported", "zipmap.onnx", "--target", "late"]);
    assert!(refused.contains("zipmap=False"), "{refused}");

    world.text(&["promote", "imported", "1", "--why", "from elsewhere"]);
    let deployed = world.text(&["deploy", "imported", "--wait"]);
    assert!(deployed.contains("completed"), "{deployed}");
    let recorded = recorded();
    for row in [0, 1, 2] {
        let inputs: Vec<String> =
            (0..4).map(|f| format!("f{f}={}", recorded["inputs"][format!("f{f}")][row])).collect();
        let answer =
            world.json(&[&["predict", "imported"], &*inputs.iter().map(String::as_str).collect::<Vec<_>>()].concat());
        let probability = answer[0]["outputs"]["probability"][0].as_f64().expect("a probability");
        let expected = recorded["scores"][2 * row + 1].as_f64().expect("a probability");
        assert!((probability - expected).abs() < 1e-5, "{probability} instead of {expected}");
    }
    // The policy of a model that was trained elsewhere has to say how to train.
    let incomplete = world.error(2, &["policy", "set", "imported", "--on", "none"]);
    assert!(incomplete.contains("--dataset"), "{incomplete}");
}

fn recorded() -> Value {
    serde_json::from_slice(&onnx_file("sklearn_logistic.json")).expect("JSON")
}

/// The recorded rows with an id and what the model predicts of them.
fn sensors() -> String {
    let recorded = recorded();
    let mut csv = "id,f0,f1,f2,f3,late\n".to_owned();
    for row in 0..64 {
        let values: Vec<String> = (0..4).map(|f| recorded["inputs"][format!("f{f}")][row].to_string()).collect();
        let late = i32::from(recorded["scores"][2 * row + 1].as_f64().expect("a probability") > 0.5);
        csv += &format!("{row},{},{late}\n", values.join(","));
    }
    csv
}
