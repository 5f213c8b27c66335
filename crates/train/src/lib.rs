//! Training of plain and HE-friendly networks on the graph of scuro-nn.
