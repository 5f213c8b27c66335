//! SDK: open a model, encode, encrypt, send, decrypt, decode.
