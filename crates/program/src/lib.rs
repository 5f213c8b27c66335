//! The compiled artefact: steps, layouts, parameters, keys needed, cost, digest.
