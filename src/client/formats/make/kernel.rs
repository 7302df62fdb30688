//! The shapes with tasks of a known length, for METG: the smallest tasks of which half the time is
//! still work.

use super::pattern::inputs_of;
use super::{MakeError, Shape, Size, check, range};
use crate::core::graph::{Definition, Graph, GraphBuilder, GraphError};
use crate::core::id::{OperationId, OptionsId, TaskId};
use crate::core::key::Group;
use crate::core::task::{Argument, Body, Call, Operation, TaskOptions};
use crate::core::value::Value;

/// What every point does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// How long it computes, in turns of a loop.
    pub iterations: u32,
    /// How much it gives.
    pub bytes: u32,
}

/// Makes a graph whose points call `kernel`. Those without inputs take their place in the row.
pub fn make_with_kernel(shape: Shape, size: Size, kernel: Kernel) -> Result<Graph, MakeError> {
    if shape == Shape::Tree {
        return Err(MakeError::NoKernel(shape));
    }
    check(shape, size)?;
    let mut maker = KernelMaker::new(shape, size, kernel);
    maker.make().map_err(|_: GraphError| MakeError::TooLarge(size))?;
    maker.builder.build().map_err(|_| MakeError::TooLarge(size))
}

struct KernelMaker {
    builder: GraphBuilder,
    shape: Shape,
    size: Size,
    kernel: Kernel,
    options: OptionsId,
    /// Operations that take as many inputs as their place says.
    taking: Vec<Option<OperationId>>,
}

impl KernelMaker {
    fn new(shape: Shape, size: Size, kernel: Kernel) -> Self {
        let mut builder = GraphBuilder::new(shape.to_string(), "/");
        let options = builder.options(TaskOptions::default());
        KernelMaker { builder, shape, size, kernel, options, taking: Vec::new() }
    }

    fn make(&mut self) -> Result<(), GraphError> {
        let Size { width, steps, .. } = self.size;
        self.builder.declare(Group::array("point", vec![range(steps), range(width)]))?;
        self.builder.declare(Group::single("checksum"))?;
        let first: Vec<OperationId> = (0..width).map(|point| self.first(point)).collect();
        let mut inputs = Vec::new();
        for step in 0..steps {
            for point in 0..width {
                if step == 0 || self.shape == Shape::Trivial {
                    self.define(first[point as usize], Vec::new())?;
                    continue;
                }
                inputs_of(self.shape, self.size, step, point, &mut inputs);
                let operation = self.later(inputs.len());
                let before = (step - 1) * width;
                self.define(operation, inputs.iter().map(|input| TaskId(before + input)).collect())?;
            }
        }
        let checksum = self.call("checksum", inputs_in_order(width as usize));
        self.define(checksum, (width * (steps - 1)..width * steps).map(TaskId).collect())
    }

    fn first(&mut self, point: u32) -> OperationId {
        self.kernel(vec![Argument::Value(Value::Int(point.into()))])
    }

    fn later(&mut self, count: usize) -> OperationId {
        if let Some(Some(operation)) = self.taking.get(count) {
            return *operation;
        }
        let operation = self.kernel(inputs_in_order(count));
        self.taking.resize(self.taking.len().max(count + 1), None);
        self.taking[count] = Some(operation);
        operation
    }

    fn kernel(&mut self, inputs: Vec<Argument>) -> OperationId {
        let Kernel { iterations, bytes } = self.kernel;
        let sizes = [iterations, bytes].map(|size| Argument::Value(Value::Int(size.into())));
        self.call("kernel", sizes.into_iter().chain(inputs).collect())
    }

    fn call(&mut self, function: &str, arguments: Vec<Argument>) -> OperationId {
        let body = Body::Call(Call { function: function.into(), arguments });
        self.builder.operation(Operation { body, inputs: vec![], outputs: vec![] })
    }

    fn define(&mut self, operation: OperationId, values: Vec<TaskId>) -> Result<(), GraphError> {
        let definition = Definition { operation, options: self.options, values, orders: vec![] };
        self.builder.define(definition).map(|_| ())
    }
}

fn inputs_in_order(count: usize) -> Vec<Argument> {
    (0..count as u32).map(Argument::Input).collect()
}
