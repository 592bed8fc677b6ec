//! Convolutional networks on generated images: a bar anywhere in the image, which is horizontal or vertical.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rekindle_bundle::Model;
use rekindle_dataset::Table;
use rekindle_domain::{
    Recipe,
    recipe::{CnnRecipe, ImageShape, ModelRecipe, Optimizer},
};
use rekindle_training::{Origin, TrainInput, train};

const SIDE: usize = 9;
/// Columns are named in the order of the pixels.
const NAMES: usize = SIDE * SIDE;

/// Images with a frame that never changes, and whether the bar is vertical.
fn images(count: usize, seed: u64) -> Vec<(String, ArrayRef)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut pixels: Vec<Vec<f64>> = vec![Vec::new(); NAMES];
    let mut vertical = Vec::with_capacity(count);
    for row in 0..count {
        let (along, across) = (random.random_range(1..SIDE - 4), random.random_range(1..SIDE - 1));
        let is_vertical = row % 2 == 0;
        for (pixel, values) in pixels.iter_mut().enumerate() {
            let (y, x) = (pixel / SIDE, pixel % SIDE);
            let is_frame = [y, x].iter().any(|at| [0, SIDE - 1].contains(at));
            let (length, width) = if is_vertical { (y, x) } else { (x, y) };
            let is_bar = width == across && (along..along + 4).contains(&length);
            let noise = if is_frame { 0.0 } else { random.random_range(0.0..0.4) };
            values.push(noise + f64::from(u8::from(is_bar)));
        }
        vertical.push(i64::from(is_vertical));
    }
    let pixels = pixels.into_iter().enumerate();
    let pixels = pixels.map(|(pixel, values)| (format!("p{pixel}"), Arc::new(Float64Array::from(values)) as ArrayRef));
    pixels.chain([("vertical".to_owned(), Arc::new(Int64Array::from(vertical)) as ArrayRef)]).collect()
}

fn table(columns: Vec<(String, ArrayRef)>) -> Table {
    Table::from_batch(&RecordBatch::try_from_iter(columns).expect("columns of one length")).expect("a table")
}

fn recipe(image: &str) -> Recipe {
    let optimizer = Optimizer { max_epochs: 15, batch_size: 64, learning_rate: 0.005, ..Optimizer::default() };
    let image: ImageShape = image.parse().expect("a shape");
    let cnn = CnnRecipe { filters: vec![8, 8], hidden: vec![16], optimizer, ..CnnRecipe::for_image(image) };
    Recipe { model: ModelRecipe::Cnn(cnn), ..Recipe::for_target("vertical") }
}

fn trained(table: &Table, recipe: &Recipe) -> Result<rekindle_bundle::Bundle, rekindle_training::Error> {
    let origin = Origin { run_id: "run".into(), dataset_digests: vec![], code_revision: "abc".into() };
    let input = TrainInput { table, time_column: None, recipe };
    train(&input, &origin, |_| std::ops::ControlFlow::Continue(()))
}

#[test]
fn a_convolutional_network_finds_a_shape_wherever_it_is() {
    let (past, future) = (table(images(1_500, 1)), table(images(500, 2)));
    let bundle = trained(&past, &recipe("9x9")).expect("trains");
    let card = bundle.card().expect("a card");
    assert!(card.contains("a convolutional network for images of 9x9 values"), "{card}");
    let model = Model::from_bundle(&bundle).expect("a model");
    let prediction = model.score(&future.batch).expect("scores");
    let metrics = model.metrics(&prediction, &model.targets(&future.batch).expect("targets")).expect("metrics");
    assert!(metrics["accuracy"] > 0.97, "{metrics:?}");
    // A row has the same bits in every batch.
    let alone = model.score(&future.batch.slice(300, 1)).expect("scores");
    assert_eq!(alone, prediction.slice(300, 1));
    let row = future.batch.slice(0, 2);
    let explanation = model.explain(&row, &model.score(&row).expect("scores")).expect("an explanation");
    for (at, score) in explanation.scores.iter().enumerate() {
        let contributions = &explanation.contributions[at * NAMES..(at + 1) * NAMES];
        let sum = explanation.baselines[at] + contributions.iter().sum::<f64>();
        assert!((sum - score).abs() < 1e-3, "{sum} {score}");
        assert_eq!(contributions[0], 0.0, "the frame is the same in every image");
    }
}

#[test]
fn rows_that_are_no_images_of_the_shape_are_refused() {
    let refused = |columns, image| trained(&table(columns), &recipe(image)).expect_err("refused").to_string();
    let wrong = refused(images(100, 1), "8x8");
    assert!(wrong.contains("8x8 has 64 values") && wrong.contains("81 features"), "{wrong}");
    let mut with_text = images(100, 1);
    with_text[3].1 = Arc::new(StringArray::from(vec!["a"; 100]));
    let text = refused(with_text, "9x9");
    assert!(text.contains("column p3") && text.contains("numbers"), "{text}");
}
