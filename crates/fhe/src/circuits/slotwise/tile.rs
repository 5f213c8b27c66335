//! The steps of a circuit on one tile of positions after the other.

use scuro_polyring::{AlignedBuffer, Lanes, TILE};

use super::{Form, Item, SlotwiseCircuit, SlotwiseObserver, SlotwiseStep};
use crate::ckks::{Ciphertext, PARTS_MAX};

/// Tiles of the inputs that are fetched together: longer pieces of each polynomial pass through
/// memory faster.
const STAGED_TILES: usize = 4;
/// Words of a product that are held outside of their place until their operands have been read.
const PRODUCT_WORDS: usize = 8 * TILE;
/// The third part of a two-part ciphertext.
const ZERO: [u64; TILE] = [0; TILE];

/// Buffers for the values of the steps at one tile.
pub(super) struct Workspace<'a> {
    circuit: &'a SlotwiseCircuit,
    forms: &'a [Form],
    lanes: Lanes,
    /// per step, modulo this prime
    constants: &'a [Vec<u64>],
    observer: SlotwiseObserver<'a>,
    /// which buffer holds the value of a step
    places: Vec<usize>,
    /// each `[parts][ciphertexts][TILE]` with room for three parts
    buffers: Vec<AlignedBuffer>,
}

impl<'a> Workspace<'a> {
    pub(super) fn new(
        circuit: &'a SlotwiseCircuit,
        forms: &'a [Form],
        lanes: Lanes,
        constants: &'a [Vec<u64>],
        observer: SlotwiseObserver<'a>,
    ) -> Self {
        let (places, lengths) = assign_places(circuit, forms);
        let buffers = lengths.into_iter().map(AlignedBuffer::zeroed).collect();
        Self {
            circuit,
            forms,
            lanes,
            constants,
            observer,
            places,
            buffers,
        }
    }

    /// Fills the item's pieces of the outputs.
    pub(super) fn run(&mut self, mut item: Item<'_>, inputs: &[&[Ciphertext]]) {
        let length = item.outs.first().map_or(0, |out| out.len());
        let mut stage = Stage::new(&self.forms[..self.circuit.inputs]);
        for offset in (0..length).step_by(TILE) {
            (self.observer)(None);
            if offset % (STAGED_TILES * TILE) == 0 {
                let tiles = STAGED_TILES.min((length - offset) / TILE);
                stage.fetch(inputs, item.limb, item.start + offset, tiles);
            }
            let input = stage.tile(offset / TILE % STAGED_TILES);
            for index in 0..self.circuit.steps.len() {
                self.step(index, &input);
                (self.observer)(Some(index));
            }
            self.store(&mut item.outs, offset);
        }
    }

    fn step(&mut self, index: usize, input: &Input<'_>) {
        match &self.circuit.steps[index] {
            SlotwiseStep::Matrix { operands, .. } => self.matrix(index, operands, input),
            SlotwiseStep::Combine { operands, .. } => self.combine(index, operands, input),
            SlotwiseStep::AddScalars { operand, .. } => self.add_scalars(index, *operand, input),
            SlotwiseStep::Multiply { left, right } => self.multiply(index, *left, *right, input),
        }
    }

    fn matrix(&mut self, index: usize, operands: &[usize], input: &Input<'_>) {
        let SlotwiseStep::Matrix { matrix, .. } = &self.circuit.steps[index] else {
            return;
        };
        let place = self.places[index];
        let mut out = std::mem::take(&mut self.buffers[place]);
        let form = self.forms[self.circuit.inputs + index];
        let outs = out.as_chunks_mut::<TILE>().0.chunks_exact_mut(form.count);
        let mut columns = Vec::with_capacity(matrix.columns());
        for (part, outs) in outs.take(form.parts).enumerate() {
            columns.clear();
            operands
                .iter()
                .for_each(|&operand| self.gather(operand, part, input, &mut columns));
            self.lanes.matrix(matrix, outs, &columns);
        }
        self.buffers[place] = out;
    }

    /// The tiles of one part of a value.
    fn gather<'b>(
        &'b self,
        value: usize,
        part: usize,
        input: &Input<'b>,
        tiles: &mut Vec<&'b [u64; TILE]>,
    ) {
        let form = self.forms[value];
        if part >= form.parts {
            tiles.extend((0..form.count).map(|_| &ZERO));
        } else if value < self.circuit.inputs {
            let first = input.firsts[value] + part * form.count;
            tiles.extend(&input.tiles[first..first + form.count]);
        } else {
            let buffer = &self.buffers[self.places[value - self.circuit.inputs]];
            tiles.extend(&buffer.as_chunks::<TILE>().0[part * form.count..][..form.count]);
        }
    }

    fn combine(&mut self, index: usize, operands: &[usize], input: &Input<'_>) {
        let place = self.places[index];
        let mut out = std::mem::take(&mut self.buffers[place]);
        out.fill(0);
        let form = self.forms[self.circuit.inputs + index];
        let mut tiles = Vec::with_capacity(form.count);
        for (&operand, &factor) in operands.iter().zip(&self.constants[index]) {
            for part in 0..self.forms[operand].parts {
                tiles.clear();
                self.gather(operand, part, input, &mut tiles);
                let sums = &mut out.as_chunks_mut::<TILE>().0[part * form.count..];
                for (sum, tile) in sums.iter_mut().zip(&tiles) {
                    self.lanes.multiply_add(sum, *tile, factor);
                }
            }
        }
        self.buffers[place] = out;
    }

    fn add_scalars(&mut self, index: usize, operand: usize, input: &Input<'_>) {
        let place = self.places[index];
        self.bring(operand, place, input);
        let tiles = self.buffers[place].as_chunks_mut::<TILE>().0;
        for (tile, &constant) in tiles.iter_mut().zip(&self.constants[index]) {
            self.lanes.add_constant(tile, constant);
        }
    }

    fn multiply(&mut self, index: usize, left: usize, right: usize, input: &Input<'_>) {
        let place = self.places[index];
        self.bring(left, place, input);
        let mut out = std::mem::take(&mut self.buffers[place]);
        let words = self.forms[left].count * TILE;
        let (low, rest) = out.split_at_mut(words);
        let (middle, high) = rest.split_at_mut(words);
        let copy = (right < self.circuit.inputs).then(|| self.copied(right, input));
        let factors: Option<[&[u64]; 2]> = (left != right).then(|| {
            let step = right.saturating_sub(self.circuit.inputs);
            let buffer = copy.as_ref().unwrap_or(&self.buffers[self.places[step]]);
            [&buffer[..words], &buffer[words..2 * words]]
        });
        let mut products = [[0; PRODUCT_WORDS]; 2];
        for start in (0..words).step_by(PRODUCT_WORDS) {
            let range = start..words.min(start + PRODUCT_WORDS);
            let [first, second] = products.each_mut().map(|words| &mut words[..range.len()]);
            let a = [&low[range.clone()], &middle[range.clone()]];
            let b = factors.map_or(a, |factors| factors.map(|words| &words[range.clone()]));
            self.lanes
                .tensor([first, second, &mut high[range.clone()]], a, b);
            low[range.clone()].copy_from_slice(&products[0][..range.len()]);
            middle[range.clone()].copy_from_slice(&products[1][..range.len()]);
        }
        self.buffers[place] = out;
    }

    /// The tiles of a value in a buffer of their own.
    fn copied(&self, value: usize, input: &Input<'_>) -> AlignedBuffer {
        let form = self.forms[value];
        let mut out = AlignedBuffer::zeroed(form.count * form.parts * TILE);
        self.copy_to(value, input, &mut out);
        out
    }

    /// Copies a value to `place`, unless it is there.
    fn bring(&mut self, value: usize, place: usize, input: &Input<'_>) {
        let step = value.checked_sub(self.circuit.inputs);
        if step.is_some_and(|step| self.places[step] == place) {
            return;
        }
        let mut out = std::mem::take(&mut self.buffers[place]);
        self.copy_to(value, input, &mut out);
        self.buffers[place] = out;
    }

    fn copy_to(&self, value: usize, input: &Input<'_>, out: &mut [u64]) {
        let form = self.forms[value];
        let mut tiles = Vec::with_capacity(form.count * form.parts);
        (0..form.parts).for_each(|part| self.gather(value, part, input, &mut tiles));
        for (out, tile) in out.as_chunks_mut::<TILE>().0.iter_mut().zip(tiles) {
            *out = *tile;
        }
    }

    fn store(&self, outs: &mut [&mut [u64]], offset: usize) {
        let mut outs = outs.iter_mut();
        for &value in &self.circuit.outputs {
            let form = self.forms[value];
            let tiles = self.buffers[self.places[value - self.circuit.inputs]]
                .as_chunks::<TILE>()
                .0;
            for i in 0..form.count {
                for (part, out) in outs.by_ref().take(form.parts).enumerate() {
                    out[offset..offset + TILE].copy_from_slice(&tiles[part * form.count + i]);
                }
            }
        }
    }
}

/// The inputs at one tile: per list, part and ciphertext.
struct Input<'a> {
    tiles: &'a [[u64; TILE]],
    /// first tile of each list
    firsts: &'a [usize],
}

/// The inputs at a few tiles, tile after tile.
struct Stage {
    words: AlignedBuffer,
    firsts: Vec<usize>,
    /// tiles of all inputs at one position
    count: usize,
}

impl Stage {
    fn new(forms: &[Form]) -> Self {
        let mut count = 0;
        let firsts = forms.iter().map(|form| {
            count += form.count * form.parts;
            count - form.count * form.parts
        });
        let firsts = firsts.collect();
        let words = AlignedBuffer::zeroed(STAGED_TILES * count * TILE);
        Self {
            words,
            firsts,
            count,
        }
    }

    fn fetch(&mut self, inputs: &[&[Ciphertext]], limb: usize, start: usize, tiles: usize) {
        let (staged, _) = self.words.as_chunks_mut::<TILE>();
        for (list, &first) in inputs.iter().zip(&self.firsts) {
            for (i, ciphertext) in list.iter().enumerate() {
                for (part, poly) in ciphertext.parts.iter().enumerate() {
                    let row = &poly.limb(limb)[start..start + tiles * TILE];
                    let place = first + part * list.len() + i;
                    for (tile, words) in row.as_chunks::<TILE>().0.iter().enumerate() {
                        staged[tile * self.count + place] = *words;
                    }
                }
            }
        }
    }

    fn tile(&self, index: usize) -> Input<'_> {
        let tiles = &self.words.as_chunks::<TILE>().0[index * self.count..][..self.count];
        Input {
            tiles,
            firsts: &self.firsts,
        }
    }
}

/// The buffer of each step and the words of each buffer. Constants and products take over the
/// buffer of their operand after its last use, so that less memory passes through the cache.
fn assign_places(circuit: &SlotwiseCircuit, forms: &[Form]) -> (Vec<usize>, Vec<usize>) {
    let mut places: Vec<usize> = Vec::with_capacity(circuit.steps.len());
    let mut lengths = Vec::new();
    for (index, step) in circuit.steps.iter().enumerate() {
        let value = step.operands()[0];
        let later = &circuit.steps[index + 1..];
        let changes = matches!(
            step,
            SlotwiseStep::AddScalars { .. } | SlotwiseStep::Multiply { .. }
        );
        let in_place = changes
            && value >= circuit.inputs
            && !circuit.outputs.contains(&value)
            && !later.iter().any(|step| step.operands().contains(&value));
        if in_place {
            places.push(places[value - circuit.inputs]);
        } else {
            places.push(lengths.len());
            lengths.push(forms[circuit.inputs + index].count * PARTS_MAX * TILE);
        }
    }
    (places, lengths)
}
