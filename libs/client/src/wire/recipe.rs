//! Training recipes.

use rekindle_domain::{
    Recipe, Task,
    recipe::{
        Calibration, CnnRecipe, ImageShape, LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, RowWeights, TabMRecipe,
    },
    validation::Violations,
};
use rekindle_proto::trainer::{self as wire, recipe::Model};

use super::{
    field::{enumeration, optional_span},
    time::span_to_wire,
};

/// The recipe as a message, every default filled in.
pub fn to_wire(recipe: &Recipe) -> wire::Recipe {
    let model = match &recipe.model {
        ModelRecipe::Linear(linear) => {
            Model::Linear(wire::LinearModel { optimizer: Some(optimizer_to_wire(&linear.optimizer)) })
        }
        ModelRecipe::Mlp(mlp) => Model::Mlp(wire::MlpModel {
            hidden: mlp.hidden.iter().copied().map(whole).collect(),
            dropout: Some(mlp.dropout),
            optimizer: Some(optimizer_to_wire(&mlp.optimizer)),
        }),
        ModelRecipe::TabM(tabm) => Model::Tabm(wire::TabMModel {
            members: Some(whole(tabm.members)),
            bins: Some(whole(tabm.bins)),
            hidden: tabm.hidden.iter().copied().map(whole).collect(),
            dropout: Some(tabm.dropout),
            optimizer: Some(optimizer_to_wire(&tabm.optimizer)),
        }),
        ModelRecipe::Cnn(cnn) => Model::Cnn(wire::CnnModel {
            height: whole(cnn.image.height),
            width: whole(cnn.image.width),
            channels: Some(whole(cnn.image.channels)),
            filters: cnn.filters.iter().copied().map(whole).collect(),
            hidden: cnn.hidden.iter().copied().map(whole).collect(),
            dropout: Some(cnn.dropout),
            optimizer: Some(optimizer_to_wire(&cnn.optimizer)),
        }),
    };
    wire::Recipe {
        target: recipe.target.clone(),
        task: recipe.task.map_or(wire::Task::Unspecified, task_to_wire).into(),
        ignore: recipe.ignore.clone(),
        validation_share: Some(recipe.validation_share),
        seed: Some(recipe.seed),
        lookback: recipe.lookback.map(span_to_wire),
        weights: (!recipe.weights.is_none()).then(|| weights_to_wire(&recipe.weights)),
        calibration: calibration_to_wire(recipe.calibration).into(),
        model: Some(model),
    }
}

/// The recipe that a message holds; unset fields take their defaults.
pub fn from_wire(given: wire::Recipe) -> Result<Recipe, Violations> {
    let recipe = recorded(given)?;
    recipe.validate().map(|()| recipe)
}

/// A stored recipe. Its bounds were those of the release that stored it, so they are not checked again.
pub fn recorded(given: wire::Recipe) -> Result<Recipe, Violations> {
    let base = Recipe::for_target(given.target);
    let task = match wire::Task::try_from(given.task) {
        Ok(wire::Task::Unspecified) => None,
        Ok(wire::Task::Binary) => Some(Task::Binary),
        Ok(wire::Task::Multiclass) => Some(Task::Multiclass),
        Ok(wire::Task::Regression) => Some(Task::Regression),
        Err(_) => {
            let problem = format!("is {}: expected one of TASK_BINARY, TASK_MULTICLASS, TASK_REGRESSION", given.task);
            return Err(Violations::of("task", problem));
        }
    };
    Ok(Recipe {
        task,
        ignore: given.ignore,
        validation_share: given.validation_share.unwrap_or(base.validation_share),
        seed: given.seed.unwrap_or(base.seed),
        lookback: optional_span("lookback", given.lookback)?,
        weights: weights_from_wire(given.weights.unwrap_or_default())?,
        calibration: calibration_from_wire(given.calibration)?,
        model: given.model.map_or(base.model, model_from_wire),
        target: base.target,
    })
}

fn weights_to_wire(weights: &RowWeights) -> wire::RowWeights {
    wire::RowWeights {
        column: weights.column.clone().unwrap_or_default(),
        balanced: weights.balanced,
        half_life: weights.half_life.map(span_to_wire),
    }
}

fn weights_from_wire(given: wire::RowWeights) -> Result<RowWeights, Violations> {
    Ok(RowWeights {
        column: Some(given.column).filter(|column| !column.is_empty()),
        balanced: given.balanced,
        half_life: optional_span("weights.half_life", given.half_life)?,
    })
}

fn calibration_to_wire(calibration: Calibration) -> wire::Calibration {
    match calibration {
        Calibration::None => wire::Calibration::None,
        Calibration::Temperature => wire::Calibration::Temperature,
    }
}

fn calibration_from_wire(given: i32) -> Result<Calibration, Violations> {
    enumeration("calibration", given, "CALIBRATION_NONE, CALIBRATION_TEMPERATURE", |calibration| match calibration {
        wire::Calibration::Unspecified | wire::Calibration::None => Some(Calibration::None),
        wire::Calibration::Temperature => Some(Calibration::Temperature),
    })
}

fn task_to_wire(task: Task) -> wire::Task {
    match task {
        Task::Binary => wire::Task::Binary,
        Task::Multiclass => wire::Task::Multiclass,
        Task::Regression => wire::Task::Regression,
    }
}

fn model_from_wire(given: Model) -> ModelRecipe {
    match given {
        Model::Linear(linear) => {
            ModelRecipe::Linear(LinearRecipe { optimizer: optimizer_from_wire(linear.optimizer.unwrap_or_default()) })
        }
        Model::Mlp(mlp) => {
            let base = MlpRecipe::default();
            ModelRecipe::Mlp(MlpRecipe {
                hidden: widths_from_wire(&mlp.hidden).unwrap_or(base.hidden),
                dropout: mlp.dropout.unwrap_or(base.dropout),
                optimizer: optimizer_from_wire(mlp.optimizer.unwrap_or_default()),
            })
        }
        Model::Tabm(tabm) => {
            let base = TabMRecipe::default();
            ModelRecipe::TabM(TabMRecipe {
                members: tabm.members.map_or(base.members, |members| members as usize),
                bins: tabm.bins.map_or(base.bins, |bins| bins as usize),
                hidden: widths_from_wire(&tabm.hidden).unwrap_or(base.hidden),
                dropout: tabm.dropout.unwrap_or(base.dropout),
                optimizer: optimizer_from_wire(tabm.optimizer.unwrap_or_default()),
            })
        }
        Model::Cnn(cnn) => {
            let size = |size: u32| size as usize;
            let channels = cnn.channels.map_or(1, size);
            let image = ImageShape { height: size(cnn.height), width: size(cnn.width), channels };
            let base = CnnRecipe::for_image(image);
            ModelRecipe::Cnn(CnnRecipe {
                image,
                filters: widths_from_wire(&cnn.filters).unwrap_or(base.filters),
                hidden: widths_from_wire(&cnn.hidden).unwrap_or(base.hidden),
                dropout: cnn.dropout.unwrap_or(base.dropout),
                optimizer: optimizer_from_wire(cnn.optimizer.unwrap_or_default()),
            })
        }
    }
}

/// `None` if there are none.
fn widths_from_wire(widths: &[u32]) -> Option<Vec<usize>> {
    (!widths.is_empty()).then(|| widths.iter().map(|&width| width as usize).collect())
}

fn whole(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn optimizer_to_wire(optimizer: &Optimizer) -> wire::Optimizer {
    wire::Optimizer {
        max_epochs: Some(optimizer.max_epochs),
        patience: Some(optimizer.patience),
        batch_size: Some(whole(optimizer.batch_size)),
        learning_rate: Some(optimizer.learning_rate),
        weight_decay: Some(optimizer.weight_decay),
        averaging: Some(optimizer.averaging),
    }
}

fn optimizer_from_wire(given: wire::Optimizer) -> Optimizer {
    let base = Optimizer::default();
    Optimizer {
        max_epochs: given.max_epochs.unwrap_or(base.max_epochs),
        patience: given.patience.unwrap_or(base.patience),
        batch_size: given.batch_size.map_or(base.batch_size, |rows| rows as usize),
        learning_rate: given.learning_rate.unwrap_or(base.learning_rate),
        weight_decay: given.weight_decay.unwrap_or(base.weight_decay),
        averaging: given.averaging.unwrap_or(base.averaging),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipes_survive_and_unset_fields_take_defaults() {
        let optimizer = Optimizer { max_epochs: 7, learning_rate: 0.1, ..Optimizer::default() };
        let image = ImageShape { height: 8, width: 6, channels: 3 };
        for model in [
            ModelRecipe::Linear(LinearRecipe { optimizer: optimizer.clone() }),
            ModelRecipe::Mlp(MlpRecipe { hidden: vec![8, 4], dropout: 0.0, optimizer: optimizer.clone() }),
            ModelRecipe::TabM(TabMRecipe {
                members: 2,
                bins: 0,
                hidden: vec![8, 4],
                dropout: 0.0,
                optimizer: optimizer.clone(),
            }),
            ModelRecipe::Cnn(CnnRecipe { filters: vec![4], optimizer, ..CnnRecipe::for_image(image) }),
        ] {
            let lookback = Some(std::time::Duration::from_secs(86_400));
            let weights = RowWeights { column: Some("weight".into()), balanced: true, half_life: lookback };
            let calibration = Calibration::Temperature;
            let recipe = Recipe {
                model,
                lookback,
                weights,
                calibration,
                task: Some(Task::Binary),
                seed: 3,
                ..Recipe::for_target("late")
            };
            assert_eq!(from_wire(to_wire(&recipe)), Ok(recipe));
        }
        let target = wire::Recipe { target: "late".into(), ..Default::default() };
        assert_eq!(from_wire(target), Ok(Recipe::for_target("late")));
    }

    #[test]
    fn each_bad_field_is_named() {
        let optimizer = wire::Optimizer { patience: Some(0), ..Default::default() };
        let mlp = Model::Mlp(wire::MlpModel { optimizer: Some(optimizer), ..Default::default() });
        let bad = wire::Recipe { validation_share: Some(0.0), model: Some(mlp), ..Default::default() };
        let fields: Vec<_> = from_wire(bad).expect_err("three").into_iter().map(|violation| violation.field).collect();
        assert_eq!(fields, ["target", "validation_share", "mlp.optimizer.patience"]);
        let task = wire::Recipe { target: "late".into(), task: 99, ..Default::default() };
        assert!(from_wire(task).is_err());
    }
}
