//! Why a model gives a row its score: the contribution of each feature.

/// The contributions of the features to the scores of some rows.
///
/// The score of a row is its log odds for two classes, the logit of the predicted class for several, and the predicted number for
/// regression. The baseline is a row whose numbers and flags have the mean of the training rows, whose times have no calendar features, and whose
/// categories are unseen. The contributions of a row add up to its score less that of the baseline: exactly for linear models but for
/// rounding, and within [`crate::network::TOLERANCE`] for networks.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// Features per row, in the order of the signature's inputs.
    pub features: usize,
    /// Row-major: `rows * features`.
    pub contributions: Vec<f64>,
    /// The score of the baseline, per row: it depends on the explained class.
    pub baselines: Vec<f64>,
    /// The score of each row.
    pub scores: Vec<f64>,
}
