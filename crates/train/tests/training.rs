//! Training jobs from the outside: determinism, learning, early stopping, folding and faults.

use scuro_nn::activation::{Plan, Which};
use scuro_nn::data::{Preprocess, Split, synthetic};
use scuro_nn::graph::{Graph, GraphBuilder, Op};
use scuro_nn::reference;
use scuro_nn::tensor::{Tensor, argmax};
use scuro_train::architectures::{Activation, NAMES, architecture, architecture_for};
use scuro_train::recipes::{cook, fine_tuning, recipe, recipe_for};
use scuro_train::{
    Adaptation, Augmentation, Distillation, EpochRecord, Error, Examples, Optimiser, Progress,
    RangePenalty, Schedule, Subject, TrainConfig, Trained, adapt, fold_batch_norms, score, train,
};
use std::ops::ControlFlow;

fn digits(split: Split, count: usize) -> Examples {
    Examples::from_dataset(&synthetic::dataset(split, count))
}

fn quick() -> TrainConfig {
    TrainConfig {
        epochs: 3,
        batch: 50,
        learning_rate: 3e-3,
        schedule: Schedule::Cosine { floor: 0.0 },
        ..TrainConfig::default()
    }
}

fn fit(
    name: &str,
    activation: Option<Activation>,
    examples: &Examples,
    config: &TrainConfig,
) -> Trained {
    let made = architecture(name, activation, config.seed).unwrap();
    train(made.graph, examples, config, &mut ()).unwrap()
}

#[test]
fn equal_seeds_give_equal_weights_on_any_number_of_threads() {
    let examples = digits(Split::Train, 250);
    let run = |seed, threads| {
        let config = TrainConfig {
            seed,
            threads: Some(threads),
            augmentation: Some(Augmentation::digits()),
            epochs: 2,
            ..quick()
        };
        let made = architecture("lenet", None, seed).unwrap();
        let config = TrainConfig {
            dropout: made.dropout,
            ..config
        };
        train(made.graph, &examples, &config, &mut ()).unwrap()
    };
    let one = run(7, 1);
    assert_eq!(one, run(7, 3));
    assert_ne!(one.graph, run(8, 1).graph);
}

#[test]
fn a_network_of_squares_learns_digits_with_every_optimiser() {
    let (examples, test) = (digits(Split::Train, 2000), digits(Split::Test, 500));
    let rules = [
        (Optimiser::adam(), 3e-3),
        (Optimiser::rms_prop(), 1e-3),
        (Optimiser::sgd(0.9, true), 3e-2),
    ];
    for (optimiser, learning_rate) in rules {
        let config = TrainConfig {
            optimiser,
            learning_rate,
            ..quick()
        };
        let trained = fit("cryptonets", None, &examples, &config);
        let found = score(&trained.graph, &test).unwrap();
        assert!(found.accuracy > 0.9, "{optimiser:?}: {}", found.accuracy);
    }
}

#[test]
fn folding_leaves_no_normalisation_and_the_same_answers() {
    let examples = digits(Split::Train, 300);
    let trained = fit(
        "lenet",
        None,
        &examples,
        &TrainConfig {
            epochs: 1,
            ..quick()
        },
    )
    .graph;
    let folded = fold_batch_norms(&trained).unwrap();
    assert!(
        !folded
            .nodes
            .iter()
            .any(|node| matches!(node.op, Op::BatchNorm { .. }))
    );
    for i in 0..5 {
        let image = Tensor::new([1, 28, 28], examples.image(i).to_vec()).unwrap();
        let (a, b) = (
            reference::run(&trained, &image),
            reference::run(&folded, &image),
        );
        let (a, b) = (a.unwrap().data, b.unwrap().data);
        let worst = a
            .iter()
            .zip(&b)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(worst < 1e-3, "{worst}");
    }
}

#[test]
fn a_normalisation_of_a_value_that_is_used_twice_stays() {
    let mut net = GraphBuilder::new("test", [2]);
    let eye = Tensor::new([2, 2], vec![1.0, 0.0, 0.0, 1.0]).unwrap();
    let dense = net.push(
        "",
        Op::Dense {
            weight: eye,
            bias: None,
        },
        &[net.input()],
    );
    let filled = |v| Tensor::vector(vec![v; 2]);
    let (scale, shift, mean, variance) = (filled(2.0), filled(1.0), filled(0.5), filled(1.0));
    let norm = Op::BatchNorm {
        scale,
        shift,
        mean,
        variance,
        epsilon: 0.0,
    };
    let norm = net.push("norm", norm, &[dense]);
    net.push("", Op::Add, &[dense, norm]);
    let graph = net.finish().unwrap();
    assert_eq!(fold_batch_norms(&graph).unwrap(), graph);
}

#[test]
fn the_trainer_and_the_reference_executor_agree_on_every_architecture() {
    for name in NAMES {
        let graph = architecture(name, None, 3).unwrap().graph;
        let shape = graph.input_shape().to_vec();
        let len: usize = shape.iter().product();
        let images: Vec<f32> = (0..3 * len)
            .map(|i| (i * 37 % 101) as f32 / 101.0)
            .collect();
        let labels: Vec<usize> = images
            .chunks(len)
            .map(|image| {
                let image = Tensor::new(shape.clone(), image.to_vec()).unwrap();
                argmax(&reference::run(&graph, &image).unwrap().data)
            })
            .collect();
        let examples = Examples::new(shape, images, labels).unwrap();
        assert_eq!(score(&graph, &examples).unwrap().accuracy, 1.0, "{name}");
    }
}

#[test]
fn a_student_learns_from_its_teacher_alone() {
    let (examples, test) = (digits(Split::Train, 2000), digits(Split::Test, 500));
    let teacher = fit("mlp", None, &examples, &quick()).graph;
    let wrong: Vec<usize> = examples
        .labels()
        .iter()
        .map(|label| (label + 1) % 10)
        .collect();
    let misled =
        Examples::new(examples.shape().to_vec(), examples.values().to_vec(), wrong).unwrap();
    let distillation = Some(Distillation {
        teacher,
        temperature: 2.0,
        weight: 1.0,
    });
    let config = TrainConfig {
        distillation,
        validation: 0.0,
        ..quick()
    };
    let found = score(&fit("cryptonets", None, &misled, &config).graph, &test).unwrap();
    assert!(found.accuracy > 0.85, "{}", found.accuracy);
}

#[test]
fn a_range_penalty_keeps_activations_small_and_quadratics_are_learned() {
    let examples = digits(Split::Train, 1500);
    let largest = |range_penalty| {
        let config = TrainConfig {
            range_penalty,
            ..quick()
        };
        let trained = fit("mlp", Some(Activation::Quadratic), &examples, &config).graph;
        let moved = trained.nodes.iter().any(|node| match &node.op {
            Op::Polynomial { coefficients } => coefficients[..] != [0.0, 0.5, 0.25],
            _ => false,
        });
        assert!(moved);
        let found = score(&trained, &examples).unwrap();
        assert!(found.accuracy > 0.85, "{}", found.accuracy);
        found
            .activation_ranges
            .iter()
            .map(|range| range.1)
            .fold(0.0, f32::max)
    };
    let (free, bound) = (
        largest(None),
        largest(Some(RangePenalty {
            limit: 2.0,
            weight: 0.1,
        })),
    );
    assert!(
        bound < 0.7 * free && bound < 4.0,
        "{bound} with, {free} without"
    );
}

/// Counts epochs and ends the job after the third.
#[derive(Default)]
struct Impatient(Vec<Option<f64>>);

impl Progress for Impatient {
    fn epoch(&mut self, record: &EpochRecord, _: &Graph) -> ControlFlow<()> {
        self.0.push(record.validation_accuracy);
        if self.0.len() == 3 {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }
}

#[test]
fn a_listener_ends_the_job_and_the_best_weights_are_kept() {
    let examples = digits(Split::Train, 400);
    let config = TrainConfig {
        epochs: 50,
        validation: 0.2,
        ..quick()
    };
    let made = architecture("mlp", None, 1).unwrap();
    let mut listener = Impatient::default();
    let trained = train(made.graph, &examples, &config, &mut listener).unwrap();
    assert_eq!(trained.history.epochs.len(), 3);
    let best = listener.0.iter().flatten().copied().fold(0.0, f64::max);
    assert_eq!(listener.0[trained.history.best - 1], Some(best));
}

#[test]
fn training_stops_early_when_validation_no_longer_improves() {
    let examples = digits(Split::Train, 200);
    // Steps so large that validation accuracy wanders.
    let config = TrainConfig {
        epochs: 40,
        learning_rate: 1.0,
        optimiser: Optimiser::sgd(0.0, false),
        clip_norm: Some(1.0),
        validation: 0.3,
        patience: Some(2),
        schedule: Schedule::Constant,
        ..quick()
    };
    let trained = fit("mlp", None, &examples, &config);
    assert!(trained.history.epochs.len() < 40);
    assert!(trained.history.best + 2 >= trained.history.epochs.len());
}

#[test]
fn a_recipe_trains_its_teacher_first_and_returns_a_folded_network() {
    #[derive(Default)]
    struct Phases(Vec<String>);
    impl Progress for Phases {
        fn phase(&mut self, network: &str, _epochs: usize) {
            self.0.push(network.to_owned());
        }
    }
    let examples = digits(Split::Train, 200);
    let mut recipe = recipe("cryptonets", 1).unwrap();
    recipe.config.epochs = 1;
    let mut teacher = self::recipe("mlp", 1).unwrap();
    teacher.config.epochs = 1;
    recipe.teacher = Some(scuro_train::recipes::Teacher {
        recipe: Box::new(teacher),
        temperature: 2.0,
        weight: 0.5,
    });
    let mut phases = Phases::default();
    let trained = cook(&recipe, &examples, &mut phases).unwrap();
    assert_eq!(phases.0, ["mlp", "cryptonets"]);
    let names: Vec<&str> = trained
        .graph
        .nodes
        .iter()
        .map(|node| node.op.name())
        .collect();
    let expected = [
        "Input", "Conv2d", "Square", "Flatten", "Dense", "Square", "Dense",
    ];
    assert_eq!(names, expected);
}

#[test]
fn faults_of_settings_data_and_divergence_are_told_apart() {
    let examples = digits(Split::Train, 60);
    let run = |change: fn(&mut TrainConfig)| {
        let mut config = quick();
        change(&mut config);
        let graph = architecture("mlp", None, 1).unwrap().graph;
        match train(graph, &examples, &config, &mut ()) {
            Ok(trained) => panic!("trained: {:?}", trained.history),
            Err(error) => error,
        }
    };
    assert!(matches!(
        run(|c| c.epochs = 0),
        Error::Setting {
            setting: "epochs",
            ..
        }
    ));
    assert!(matches!(
        run(|c| c.learning_rate = f32::NAN),
        Error::Setting { .. }
    ));
    assert!(matches!(
        run(|c| c.validation = 0.999),
        Error::TooFewExamples { .. }
    ));
    let rates = |c: &mut TrainConfig| c.dropout = [("dense1".to_owned(), 1.0)].into();
    assert!(matches!(run(rates), Error::DropoutRate { .. }));
    let wild = run(|c| {
        c.learning_rate = 1e30;
        c.optimiser = Optimiser::sgd(0.9, false);
    });
    assert!(matches!(wild, Error::Diverged { .. }), "{wild}");
    assert!(matches!(
        architecture("vgg", None, 1),
        Err(Error::UnknownArchitecture { .. })
    ));
    let small = Examples::new(vec![1, 2, 2], vec![0.0; 4], vec![0]).unwrap();
    let graph = architecture("mlp", None, 1).unwrap().graph;
    let found = train(graph, &small, &quick(), &mut ());
    assert!(matches!(found, Err(Error::ExampleShape { .. })));
}

/// A plan for the last activation, or all of them.
fn plan(text: &str, which: Which) -> Plan {
    Plan {
        activation: Some(text.parse().unwrap()),
        which,
        average_pools: false,
    }
}

#[test]
fn tuning_the_last_activation_recovers_the_accuracy_and_leaves_the_features_alone() {
    let (examples, test) = (digits(Split::Train, 1500), digits(Split::Test, 400));
    let relu = fit("lenet", Some(Activation::Relu), &examples, &quick()).graph;
    let relu = fold_batch_norms(&relu).unwrap();
    let plan = plan("square", Which::Last);
    let subject = Subject::new(&relu, plan);
    assert!(subject.is_classifier());
    let adaptation = Adaptation {
        plan,
        interval: None,
        config: Some(fine_tuning(&subject, &examples, 1)),
        distil: None,
    };
    let features = subject.features(&examples).unwrap();
    let adapted = adapt(subject.network(), &adaptation, &features, &mut ()).unwrap();
    let accuracy = |part| {
        let whole = subject.whole(part).unwrap();
        score(&whole, &test).unwrap().accuracy
    };
    let (before, after) = (
        accuracy(&adapted.replaced),
        accuracy(&adapted.trained.graph),
    );
    let original = score(&relu, &test).unwrap().accuracy;
    assert!(
        after > before && after > original - 0.02,
        "{original} {before} {after}"
    );
    let whole = subject.whole(&adapted.trained.graph).unwrap();
    let (kept, _) = whole.split_classifier().unwrap();
    assert_eq!(kept, relu.split_classifier().unwrap().0);
}

#[test]
fn digits_are_not_mirrored_wherever_the_network_has_its_channels() {
    let images = synthetic::dataset(Split::Test, 2);
    let graph = architecture("mlp", None, 1).unwrap().graph;
    let subject = Subject::new(&graph, plan("square", Which::All));
    for shape in [&[1, 28, 28][..], &[28, 28, 1], &[28, 28], &[784]] {
        let examples = Examples::prepared(&images, &Preprocess::default(), shape).unwrap();
        let distortion = fine_tuning(&subject, &examples, 1).augmentation;
        assert_eq!(distortion, Some(Augmentation::digits()), "{shape:?}");
    }
}

#[test]
fn coefficients_change_only_if_they_are_learned() {
    let examples = digits(Split::Train, 300);
    let relu = fit("mlp", None, &examples, &quick()).graph;
    let run = |text: &str| {
        let adaptation = Adaptation {
            plan: plan(text, Which::All),
            interval: None,
            config: Some(quick()),
            distil: Some((3.0, 0.5)),
        };
        let adapted = adapt(&relu, &adaptation, &examples, &mut ()).unwrap();
        let coefficients = |graph: &Graph| -> Vec<Vec<f32>> {
            let all = graph.nodes.iter().filter_map(|node| match &node.op {
                Op::Polynomial { coefficients } => Some(coefficients.clone()),
                _ => None,
            });
            all.collect()
        };
        [adapted.replaced, adapted.trained.graph].map(|graph| coefficients(&graph))
    };
    let [before, after] = run("modified-square");
    assert_eq!(before, vec![vec![0.0, 0.5, 0.25]; 2]);
    assert_eq!(before, after);
    let [before, after] = run("learned-quadratic");
    assert!(before.len() == 2 && before != after);
}

#[test]
fn without_settings_an_adaptation_only_replaces() {
    let examples = digits(Split::Train, 50);
    let relu = architecture("mlp", None, 1).unwrap().graph;
    let adaptation = Adaptation {
        plan: plan("none", Which::All),
        interval: None,
        config: None,
        distil: None,
    };
    let adapted = adapt(&relu, &adaptation, &examples, &mut ()).unwrap();
    assert_eq!(adapted.replaced, adapted.trained.graph);
    assert!(
        !adapted
            .replaced
            .nodes
            .iter()
            .any(|node| node.op.is_pointwise())
    );
}

#[test]
fn the_keras_network_takes_photographs_and_digits_and_nothing_else() {
    for name in ["cifar10-cnn", "cifar10-he"] {
        for shape in [[3, 32, 32], [1, 28, 28]] {
            let made = architecture_for(name, Some(&shape), None, 1).unwrap();
            assert_eq!(made.graph.input_shape(), shape);
            assert_eq!(
                recipe_for(name, Some(&shape), 1).unwrap().input.unwrap(),
                shape
            );
        }
        let other = architecture_for(name, Some(&[1, 32, 32]), None, 1);
        assert!(matches!(other, Err(Error::ExampleShape { .. })));
    }
    let ops = |activation| {
        let graph = architecture("cifar10-cnn", activation, 1).unwrap().graph;
        let ops = graph.nodes.into_iter().map(|node| node.op);
        ops.filter(Op::is_pointwise).collect::<Vec<_>>()
    };
    let modified_square = Op::Polynomial {
        coefficients: vec![0.0, 0.5, 0.25],
    };
    assert_eq!(ops(Some(Activation::Relu)), vec![Op::Relu; 5]);
    let last_replaced = [vec![Op::Relu; 4], vec![modified_square]].concat();
    assert_eq!(ops(None), last_replaced);
    let skipped = Activation::Replaced("none".parse().unwrap());
    let graph = architecture("cifar10-he", Some(skipped), 1).unwrap().graph;
    let is_linear = |op: &Op| !op.is_pointwise() && !matches!(op, Op::MaxPool { .. });
    assert!(graph.nodes.iter().all(|node| is_linear(&node.op)));
}
