//! An ONNX file as it is checked before ONNX Runtime reads it: its inputs, outputs and classes.
//!
//! The file is walked once, field by field. Nothing is allocated by a size that the file claims, and what is kept is bounded.

use std::collections::BTreeSet;

use super::{
    tensor,
    wire::{Fields, Value, numbers, text},
};
use crate::{Error, manifest::MODEL};

/// Maximum size of a file, in bytes.
pub const MAX_FILE_BYTES: u64 = 512 << 20;
/// Maximum number of operators.
pub const MAX_NODES: usize = 100_000;
/// Maximum number of initializers.
const MAX_INITIALIZERS: usize = 100_000;
/// Maximum number of inputs, and of outputs.
const MAX_OUTLETS: usize = 4096;
/// Maximum number of classes.
const MAX_CLASSES: usize = 10_000;
/// Domains whose operators are run.
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];
/// The first version of the operators of `ai.onnx` that ONNX Runtime runs.
const MIN_OPSET: u64 = 7;

/// What an import needs to know of a file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct File {
    /// The inputs that a run must give.
    pub inputs: Vec<Outlet>,
    /// The outputs.
    pub outputs: Vec<Outlet>,
    /// The classes, if the operators that compute scores name them.
    pub classes: Option<Vec<String>>,
    /// The program that wrote the file, with its version.
    pub producer: String,
    /// Its size, in bytes.
    pub bytes: u64,
    /// Bytes of that which are initializers.
    pub initializer_bytes: u64,
}

/// An input or an output.
#[derive(Debug, Clone, PartialEq)]
pub struct Outlet {
    /// Its name.
    pub name: String,
    /// The type of its elements.
    pub element: Element,
    /// The sizes of its dimensions; `None` for one that a run decides. Empty if the file does not state them.
    pub shape: Vec<Option<u64>>,
}

/// The type of elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Element {
    /// A 32-bit float.
    Float,
    /// A 64-bit float.
    Double,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A boolean.
    Bool,
    /// A text.
    Text,
    /// No tensor: a sequence or a map, as the operator ZipMap computes.
    Sequence,
    /// Another type, by its number in `TensorProto.DataType`.
    Other(u64),
}

impl File {
    /// Reads a file and checks it.
    ///
    /// # Errors
    /// [`Error::Invalid`] that says what of the file is refused, and how to export it instead.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        if size > MAX_FILE_BYTES {
            return Err(Error::invalid(MODEL, format!("it has {size} bytes, at most {MAX_FILE_BYTES} are allowed")));
        }
        let file = model(bytes).map_err(|problem| Error::invalid(MODEL, problem))?;
        Ok(Self { bytes: size, ..file })
    }

    /// About what one session of ONNX Runtime takes of memory, in bytes: initializers as they are, and what operators have as attributes,
    /// above all the nodes of trees, in structures of several times their size (measured: 6 to 11 times).
    pub fn session_bytes(&self) -> u64 {
        const OF_ATTRIBUTES: u64 = 12;
        let attributes = self.bytes.saturating_sub(self.initializer_bytes);
        self.initializer_bytes.saturating_add(attributes.saturating_mul(OF_ATTRIBUTES))
    }
}

fn model(bytes: &[u8]) -> Result<File, String> {
    let (mut graph_bytes, mut producer, mut version) = (None, String::new(), String::new());
    let mut opsets = 0;
    for field in Fields::of("ModelProto", bytes) {
        match field? {
            (2, value) => producer = text("producer_name", value)?,
            (3, value) => version = text("producer_version", value)?,
            (7, Value::Bytes(graph)) => graph_bytes = Some(graph),
            (8, Value::Bytes(opset)) => {
                check_opset(opset)?;
                opsets += 1;
            }
            (20, _) => return Err("it has training information: export the model for inference".to_owned()),
            (25, _) => {
                return Err("it has functions: replace them by their operators (onnx.inliner)".to_owned());
            }
            _ => {}
        }
    }
    let graph_bytes = graph_bytes.filter(|_| opsets > 0);
    let graph_bytes = graph_bytes.ok_or("it has no graph and operator set: it is not an ONNX file, or is truncated")?;
    let producer = format!("{producer} {version}").trim().to_owned();
    Ok(File { producer, ..graph(graph_bytes)? })
}

fn check_opset(bytes: &[u8]) -> Result<(), String> {
    let (mut domain, mut version) = (String::new(), 0);
    for field in Fields::of("an operator set", bytes) {
        match field? {
            (1, value) => domain = text("the domain of an operator set", value)?,
            (2, Value::Number(number)) => version = number,
            _ => {}
        }
    }
    check_domain(&format!("operator set {domain:?}"), &domain)?;
    if domain != "ai.onnx.ml" && version < MIN_OPSET {
        return Err(format!("its operator set is version {version}, expected {MIN_OPSET} or later: export it again"));
    }
    Ok(())
}

fn check_domain(what: &str, domain: &str) -> Result<(), String> {
    if DOMAINS.contains(&domain) {
        return Ok(());
    }
    Err(format!("{what} is of the domain {domain:?}: only operators of ai.onnx and ai.onnx.ml are run"))
}

fn graph(bytes: &[u8]) -> Result<File, String> {
    let mut file = File::default();
    let (mut initializers, mut nodes, mut classes) = (BTreeSet::new(), 0, Vec::new());
    for field in Fields::of("the graph", bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => {
                nodes += 1;
                if nodes > MAX_NODES {
                    return Err(format!("it has more than {MAX_NODES} operators"));
                }
                node(bytes, &mut classes)?;
            }
            (5, Value::Bytes(bytes)) => {
                initializers.insert(tensor::check("initializer", bytes)?);
                file.initializer_bytes += bytes.len() as u64;
                if initializers.len() > MAX_INITIALIZERS {
                    return Err(format!("it has more than {MAX_INITIALIZERS} initializers"));
                }
            }
            (11, Value::Bytes(bytes)) => push(&mut file.inputs, outlet("an input", bytes)?)?,
            (12, Value::Bytes(bytes)) => push(&mut file.outputs, outlet("an output", bytes)?)?,
            (15, _) => return Err("it has sparse initializers: export them as dense ones".to_owned()),
            _ => {}
        }
    }
    // Until version 3 of the format, initializers are inputs, too.
    file.inputs.retain(|input| !initializers.contains(&input.name));
    if file.inputs.is_empty() || file.outputs.is_empty() {
        return Err(format!("it has {} inputs and {} outputs", file.inputs.len(), file.outputs.len()));
    }
    let first = classes.first().cloned();
    // Operators that disagree (a stack of classifiers) do not tell the classes of the model.
    file.classes = first.filter(|first| classes.iter().all(|other| other == first));
    Ok(file)
}

fn push(outlets: &mut Vec<Outlet>, outlet: Outlet) -> Result<(), String> {
    if outlets.len() == MAX_OUTLETS {
        return Err(format!("it has more than {MAX_OUTLETS} inputs or outputs"));
    }
    if outlets.iter().any(|other| other.name == outlet.name) {
        return Err(format!("it has {:?} twice", outlet.name));
    }
    outlets.push(outlet);
    Ok(())
}

/// Checks an operator and adds the classes that it names.
fn node(bytes: &[u8], classes: &mut Vec<Vec<String>>) -> Result<(), String> {
    let (mut operator, mut domain) = (String::new(), String::new());
    let fields = || Fields::of("an operator", bytes);
    for field in fields() {
        match field? {
            (4, value) => operator = text("the type of an operator", value)?,
            (7, value) => domain = text("the domain of an operator", value)?,
            _ => {}
        }
    }
    check_domain(&format!("operator {operator:?}"), &domain)?;
    for field in fields() {
        if let (5, Value::Bytes(attribute_bytes)) = field? {
            let named = attribute(&operator, attribute_bytes)?;
            if !named.is_empty() && classes.last() != Some(&named) && classes.len() < 2 {
                classes.push(named);
            }
        }
    }
    Ok(())
}

/// Checks an attribute; returns the classes if it is a list of them.
fn attribute(operator: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
    let (mut name, mut classes) = (String::new(), Vec::new());
    for field in Fields::of("an attribute", bytes) {
        match field? {
            (1, value) => name = text("the name of an attribute", value)?,
            (5 | 10, Value::Bytes(bytes)) => {
                tensor::check(&format!("a tensor of operator {operator:?}"), bytes)?;
            }
            (6 | 11, _) => {
                return Err(format!("operator {operator:?} has a graph of its own: control flow is not run"));
            }
            (22 | 23, _) => return Err(format!("operator {operator:?} has a sparse tensor: export it as a dense one")),
            (8, value) if name.starts_with("classlabels") => {
                classes.extend(numbers(value, MAX_CLASSES)?.into_iter().map(|number| number.cast_signed().to_string()));
            }
            (9, value) if name.starts_with("classlabels") => classes.push(text("a class", value)?),
            _ => {}
        }
        if classes.len() > MAX_CLASSES {
            return Err(format!("operator {operator:?} has more than {MAX_CLASSES} classes"));
        }
    }
    Ok(classes)
}

fn outlet(what: &'static str, bytes: &[u8]) -> Result<Outlet, String> {
    let mut outlet = Outlet { name: String::new(), element: Element::Other(0), shape: Vec::new() };
    for field in Fields::of(what, bytes) {
        match field? {
            (1, value) => outlet.name = text(&format!("the name of {what}"), value)?,
            (2, Value::Bytes(bytes)) => value_type(bytes, &mut outlet)?,
            _ => {}
        }
    }
    if outlet.name.is_empty() {
        return Err(format!("{what} has no name"));
    }
    Ok(outlet)
}

fn value_type(bytes: &[u8], outlet: &mut Outlet) -> Result<(), String> {
    for field in Fields::of("a type", bytes) {
        match field? {
            (1, Value::Bytes(bytes)) => tensor_type(bytes, outlet)?,
            (4 | 5 | 8 | 9, _) => outlet.element = Element::Sequence,
            _ => {}
        }
    }
    Ok(())
}

fn tensor_type(bytes: &[u8], outlet: &mut Outlet) -> Result<(), String> {
    for field in Fields::of("a tensor type", bytes) {
        match field? {
            (1, Value::Number(number)) => outlet.element = Element::of(number),
            (2, Value::Bytes(shape)) => {
                for dimension in Fields::of("a shape", shape) {
                    if let (1, Value::Bytes(bytes)) = dimension? {
                        outlet.shape.push(size(bytes)?);
                    }
                    if outlet.shape.len() > 16 {
                        return Err(format!("{:?} has more than 16 dimensions", outlet.name));
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The size of a dimension, unless a run decides it.
fn size(bytes: &[u8]) -> Result<Option<u64>, String> {
    let mut size = None;
    for field in Fields::of("a dimension", bytes) {
        if let (1, Value::Number(number)) = field? {
            // Some exporters write 0 or -1 for a dimension that a run decides.
            size = Some(number).filter(|&number| number > 0 && number.cast_signed() > 0);
        }
    }
    Ok(size)
}

impl Element {
    fn of(number: u64) -> Self {
        match number {
            1 => Self::Float,
            6 => Self::Int32,
            7 => Self::Int64,
            8 => Self::Text,
            9 => Self::Bool,
            11 => Self::Double,
            other => Self::Other(other),
        }
    }

    /// Whether it is a float of either size.
    pub fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }
}

impl std::fmt::Display for Outlet {
    /// As `tensor(float)[?, 4]`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let element = match self.element {
            Element::Float => "float".to_owned(),
            Element::Double => "double".to_owned(),
            Element::Int32 => "int32".to_owned(),
            Element::Int64 => "int64".to_owned(),
            Element::Bool => "bool".to_owned(),
            Element::Text => "string".to_owned(),
            Element::Sequence => return f.write_str("sequence"),
            Element::Other(number) => format!("type {number}"),
        };
        let sizes = self.shape.iter().map(|size| size.map_or("?".to_owned(), |size| size.to_string()));
        write!(f, "tensor({element})[{}]", sizes.collect::<Vec<_>>().join(", "))
    }
}
