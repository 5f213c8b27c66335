//! Majority: each holder votes for its largest score.

use crate::numeric::argmax;

/// Votes for each class.
pub(crate) fn votes(predictions: &[Vec<f64>]) -> Vec<usize> {
    let classes = predictions.first().map_or(0, Vec::len);
    let mut votes = vec![0; classes];
    for scores in predictions.iter().filter(|scores| !scores.is_empty()) {
        votes[argmax(scores)] += 1;
    }
    votes
}

/// Votes, and below the point the place in the order of the mean, so that ties fall to the class
/// with the larger mean: `votes + rank / classes`, rank 0 the smallest.
pub(crate) fn scores(votes: &[usize], mean: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..mean.len()).collect();
    // Of equal means the first class stands last, as argmax has it.
    order.sort_by(|&a, &b| mean[a].total_cmp(&mean[b]).then(b.cmp(&a)));
    let mut scores = vec![0.0; mean.len()];
    for (rank, class) in order.into_iter().enumerate() {
        scores[class] = votes[class] as f64 + rank as f64 / mean.len() as f64;
    }
    scores
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_votes_win_and_ties_fall_to_the_mean() {
        let predictions = [
            vec![9.0, 1.0, 0.0],
            vec![0.0, 1.0, 0.5],
            vec![0.0, 0.6, 0.5],
        ];
        assert_eq!(votes(&predictions), [1, 2, 0]);
        assert_eq!(argmax(&scores(&[1, 2, 0], &[3.0, 0.9, 0.3])), 1);
        assert_eq!(argmax(&scores(&[1, 1, 0], &[3.0, 0.9, 9.0])), 0);
        assert_eq!(argmax(&scores(&[1, 1, 1], &[2.0, 2.0, 1.0])), 0);
    }
}
