//! Comparison of two categorical columns over the same bins.

use super::{
    bins::{Bin, BinKind},
    numeric,
};
use crate::{
    profile::Categorical,
    two_sample::{
        Test,
        contingency::{Correction, Statistic, homogeneity},
    },
};

/// One bin for each value or group of values, one for missing and one for unreadable values; in descending order of the rows of both
/// sides together, with a tie-break that is symmetric in the two sides.
pub(super) fn bins(reference: &Categorical, current: &Categorical) -> Vec<Bin> {
    let groups = reference.aligned(current);
    let named = groups.into_iter().enumerate().map(|(number, group)| {
        let kind = group.name.map_or(BinKind::Group { number }, |name| BinKind::Category { name });
        Bin::new(kind, group.rows.0, group.rows.1)
    });
    let mut bins: Vec<Bin> = named.collect();
    bins.push(Bin::new(BinKind::Missing, reference.missing(), current.missing()));
    bins.push(Bin::new(BinKind::OtherKind, reference.unreadable(), current.unreadable()));
    bins.retain(|bin| bin.reference + bin.current > 0);
    bins.sort_by_key(|bin| std::cmp::Reverse(bin.reference + bin.current));
    bins
}

/// Pearson's test over all bins, without pooling.
pub(super) fn chi_square(bins: &[Bin]) -> Option<Test> {
    let (reference, current): (Vec<u64>, Vec<u64>) = bins.iter().map(|bin| (bin.reference, bin.current)).unzip();
    let test = homogeneity(&reference, &current, Statistic::Pearson, Correction::None).ok()?;
    Some(Test { statistic: test.statistic, p_value: test.p_value })
}

/// The Kolmogorov-Smirnov test over text lengths, if both sides have too many distinct texts for a comparison by value.
pub(super) fn lengths(reference: &Categorical, current: &Categorical) -> Option<Test> {
    numeric::kolmogorov_smirnov(&reference.lengths()?.aligned(current.lengths()?))
}
