//! Loss and accuracy over the epochs as a drawing.
