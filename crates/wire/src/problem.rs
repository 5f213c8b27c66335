//! The body of every answer that is not a success.

use serde::{Deserialize, Serialize};

/// Why a request was refused. Holds no secret and no decrypted value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Problem {
    /// Stable name, `area.what`.
    pub code: String,
    /// What and where.
    pub message: String,
    /// The cheapest fix.
    pub hint: String,
}

impl Problem {
    /// A problem.
    pub fn new(code: &str, message: impl Into<String>, hint: &str) -> Self {
        Self {
            code: code.to_string(),
            message: message.into(),
            hint: hint.to_string(),
        }
    }
}
