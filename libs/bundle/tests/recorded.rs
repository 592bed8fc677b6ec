//! Bundles that earlier releases stored load, and predict the same bits.

use std::{io, sync::Arc};

use arrow::{
    array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray},
    datatypes::{Field, Schema},
};
use bytes::Bytes;
use rekindle_bundle::{Backend, Bundle, Model};
use rekindle_domain::{Architecture, ColumnKind, Digest, Task};
use rekindle_testkit::Fixture;

const LINEAR: &str = "sha256:c284b79ab6af260054adf12ec700c012dead89a8656876a00da7e14e1aad980d";
const NETWORK: &str = "sha256:9c0b617d1d9574e890a408cb3da138cb471ebbee633c7dca347dace6c7b7da94";
const REGRESSION: &str = "sha256:fd9e6a38509860e5e474e7a6aaa897554995b791eff0606b775a62352436dfd1";

async fn recorded(digest: &str) -> Bundle {
    let (fixture, digest) = (Fixture::of("0.1.0"), digest.parse::<Digest>().expect("a digest"));
    let fetch = async |digest: Digest, _| {
        let text = digest.to_string();
        let hex = text.strip_prefix("sha256:").expect("the only algorithm");
        Ok::<_, io::Error>(Bytes::from(fixture.read(format!("objects/blobs/sha256/{}/{hex}", &hex[..2]))))
    };
    let bundle = Bundle::load(&digest, fetch).await.expect("it loads");
    assert_eq!(bundle.digest().expect("it has one"), digest, "the manifest is written as it was read");
    bundle
}

/// The request of the fixture's README.
fn rows(model: &Model) -> RecordBatch {
    let column = |name: &str| -> ArrayRef {
        match name {
            "time" => Arc::new(Int64Array::from(vec![1_767_333_600_000_i64; 3])),
            "origin" => Arc::new(StringArray::from(vec!["EWR", "LGA", "never seen"])),
            "distance" => Arc::new(Int64Array::from(vec![200_i64, 900, 1400])),
            "dep_delay" => Arc::new(Float64Array::from(vec![Some(3.5), None, Some(40.0)])),
            other => panic!("no input is called {other}"),
        }
    };
    let inputs = &model.signature().inputs;
    let columns: Vec<ArrayRef> = inputs.iter().map(|input| column(&input.name)).collect();
    let field = |(n, column): (usize, &ArrayRef)| Field::new(&inputs[n].name, column.data_type().clone(), true);
    let fields: Vec<Field> = columns.iter().enumerate().map(field).collect();
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("columns of three rows")
}

#[tokio::test]
async fn a_regression_predicts_what_was_answered() {
    let bundle = recorded(REGRESSION).await;
    assert_eq!((bundle.manifest.task, &bundle.manifest.classes), (Task::Regression, &None));
    let model = Model::from_bundle(&bundle).expect("a model");
    let prediction = model.predict(&rows(&model)).expect("it predicts");
    let answered = [2.642_652_8_f32, 20.669_313, 38.091_96].map(f32::to_bits);
    let (width, scores) = prediction.scores();
    assert_eq!((width, scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>()), (1, answered.to_vec()));
}

#[tokio::test]
async fn manifests_profiles_and_cards_read_back() {
    for (digest, trained) in [(LINEAR, "linear"), (NETWORK, "mlp"), (REGRESSION, "linear")] {
        let bundle = recorded(digest).await;
        let (manifest, reference) = (&bundle.manifest, bundle.reference().expect("a reference profile"));
        assert_eq!(manifest.backend, Backend::Network, "{digest}: recorded without the key");
        let is_linear = matches!(manifest.architecture, Some(Architecture::Linear));
        assert_eq!(is_linear, trained == "linear", "{digest}");
        for input in &manifest.signature.inputs {
            let is_profiled = input.kind != ColumnKind::Timestamp;
            assert_eq!(reference.feature(&input.name).is_some(), is_profiled, "{digest}: {}", input.name);
        }
        assert!(bundle.card().expect("a card").contains(&manifest.target), "{digest}");
        assert!(manifest.provenance.trained_until.is_some(), "{digest}");
        Model::from_bundle(&bundle).expect("a model").warm_up().expect("it predicts");
    }
    let network = recorded(NETWORK).await;
    let Some(Architecture::Mlp { hidden, dropout }) = &network.manifest.architecture else { panic!("a network") };
    assert_eq!((hidden.as_slice(), *dropout), ([8, 4].as_slice(), 0.1));
}
