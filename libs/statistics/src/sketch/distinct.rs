use datasketches::{
    common::NumStdDev,
    hll::{HllSketch, HllType, HllUnion},
};
use serde::{Deserialize, Serialize};

use super::bytes::Base64Bytes;

/// 4,096 registers: a standard error of 1.6 %, in 4 KiB.
const LG_REGISTERS: u8 = 12;

/// The number of distinct keys: HyperLogLog (Flajolet, Fusy, Gandouet and Meunier 2007) of Apache DataSketches, in its portable format.
///
/// Registers are maxima, so the result does not depend on the order of keys or merges; the estimate depends on the registers
/// alone.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Base64Bytes", into = "Base64Bytes")]
pub struct Distinct(HllSketch);

impl Distinct {
    /// Without keys.
    pub fn new() -> Self {
        Self(HllSketch::new(LG_REGISTERS, HllType::Hll8).expect("12 is within the sketch's range"))
    }

    /// Adds a key.
    pub fn add(&mut self, key: u64) {
        self.0.update(key);
    }

    /// Adds the keys of another part.
    pub fn merge(&mut self, other: &Self) {
        self.0 = union(&self.0, &other.0);
    }

    /// The estimated number of distinct keys.
    pub fn estimate(&self) -> f64 {
        self.0.composite_estimate()
    }

    /// Bounds of the number with a confidence of 99.7 % (three standard deviations).
    pub fn bounds(&self) -> (f64, f64) {
        let registers = self.registers_alone();
        (registers.lower_bound(NumStdDev::Three), registers.upper_bound(NumStdDev::Three))
    }

    /// A lower bound of the number of common keys, with a confidence of 99.7 %: the sum of both numbers minus the number of the union, with
    /// the three errors added in quadrature.
    pub fn common_at_least(&self, other: &Self) -> f64 {
        let both = Self(union(&self.0, &other.0));
        let error = |of: &Self| (of.bounds().1 - of.bounds().0) / 2.0;
        let common = self.estimate() + other.estimate() - both.estimate();
        let uncertain = [self, other, &both].map(error).into_iter().fold(0.0, f64::hypot);
        (common - uncertain).max(0.0)
    }

    /// The same sketch without its state that depends on the order of keys, which a merge drops.
    fn registers_alone(&self) -> HllSketch {
        union(&self.0, &self.0)
    }
}

fn union(one: &HllSketch, other: &HllSketch) -> HllSketch {
    let mut union = HllUnion::new(LG_REGISTERS).expect("12 is within the sketch's range");
    union.update(one);
    union.update(other);
    union.to_sketch(HllType::Hll8)
}

impl Default for Distinct {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Distinct {
    fn eq(&self, other: &Self) -> bool {
        // Of the same keys: none of either's is new to the other, and none of the registers of both together is higher.
        let both = Self(union(&self.0, &other.0)).estimate();
        self.registers_alone().estimate() == both && other.registers_alone().estimate() == both
    }
}

impl From<Distinct> for Base64Bytes {
    fn from(distinct: Distinct) -> Self {
        Self::of(&distinct.registers_alone().serialize())
    }
}

impl TryFrom<Base64Bytes> for Distinct {
    type Error = String;

    fn try_from(stored: Base64Bytes) -> Result<Self, String> {
        let bytes = stored.bytes()?;
        check(&bytes)?;
        let sketch = HllSketch::deserialize(&bytes).map_err(|error| error.to_string())?;
        // The decoder accepts unchecked layouts for few keys, which differ in length from what it writes.
        if sketch.serialize().len() != bytes.len() {
            return Err("the layout of the sketch is not supported".to_owned());
        }
        // The decoder also trusts the sums stored beside the registers; they are recomputed here.
        Ok(Self(Self(sketch).registers_alone()))
    }
}

/// Offset of the registers, if there are any.
const REGISTERS_AT: usize = 40;

/// The most leading zeros that a register counts, plus one.
const LARGEST_REGISTER: u8 = 63;

/// Rejects bytes that this crate never writes, before they are decoded: another number or type of registers, and register values on
/// which the arithmetic of the decoder overflows.
fn check(bytes: &[u8]) -> Result<(), String> {
    let &[_, _, _, lg_registers, _, _, _, mode, ..] = bytes else { return Err("the sketch is truncated".to_owned()) };
    if lg_registers != LG_REGISTERS {
        return Err(format!("the sketch has 2^{lg_registers} registers, not 2^{LG_REGISTERS}"));
    }
    // The type of the registers in two bits, 8 bits each being the third.
    if (mode >> 2) & 3 != 2 {
        return Err("the sketch's registers are not of 8 bits".to_owned());
    }
    let has_registers = mode & 3 == 2;
    if has_registers && bytes.iter().skip(REGISTERS_AT).any(|register| *register > LARGEST_REGISTER) {
        return Err("a register of the sketch is too large".to_owned());
    }
    Ok(())
}
