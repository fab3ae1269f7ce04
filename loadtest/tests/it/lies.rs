//! Lies of relays that keep messages. Each is told once, to one client among several: the run must fail and name it.

use loadtest::report::Report;

use crate::keeper::{Keeper, Lie};
use crate::support::{load_until, pass, refused};

/// Messages are published by POST.
const POSTS: &str = "fanout --subscribers 4 --publishers 2 --rate 2000 --patience 5s --post";

/// Half of the clients read events. One is cut now and then.
const EVENTS: &str = "jitter --subscribers 8 --publishers 2 --rate 2000 --cut-every 300ms --away 50ms --patience 5s --sse 50%";

/// Clients that are cut often, and miss something each time.
const JITTER: &str =
    "jitter --subscribers 6 --publishers 2 --rate 2000 --cut-every 150ms --away 50ms --patience 5s";

/// Runs against a relay until it has lied, and expects that it is found out.
fn found(lie: Lie, options: &str) -> Report {
    let keeper = Keeper::start(lie);
    let report = load_until(&format!("{options} --url {}", keeper.url()), || {
        keeper.lies() > 0
    });
    assert!(keeper.lies() > 0, "{lie:?} was not told");
    assert!(!report.passed, "{lie:?} was not found out");
    report
}

fn says(report: &Report, words: &str) -> bool {
    report
        .failures
        .iter()
        .any(|failure| failure.contains(words))
}

#[test]
fn a_relay_that_keeps_its_promise_passes() {
    let keeper = Keeper::start(Lie::None);
    let report = pass(&format!("{JITTER} --duration 1s --url {}", keeper.url()));
    let returns = report.returns.unwrap();
    assert!(returns.returned > 0 && returns.behind > 0);
}

#[test]
fn a_message_that_is_replayed_although_the_client_has_it_is_found() {
    let report = found(Lie::Repeat, JITTER);
    assert_eq!(report.deliveries.duplicated, 1);
    let worst = report.returns.unwrap().worst_clients[0];
    assert_eq!((worst.repeated, worst.lost), (1, 0));
}

#[test]
fn a_message_that_is_left_out_of_a_replay_is_found() {
    let report = found(Lie::Skip, JITTER);
    assert_eq!(report.deliveries.lost, 1);
    assert_eq!(report.returns.unwrap().worst_clients[0].lost, 1);
}

#[test]
fn messages_that_are_said_to_be_lost_and_come_all_the_same_are_found() {
    let report = found(Lie::SayLost, JITTER);
    let returns = report.returns.as_ref().unwrap();
    assert_eq!((returns.falsely_told, returns.told), (3, 0));
    assert!(says(
        &report,
        "3 messages were said to be lost, and were not missing"
    ));
}

#[test]
fn more_messages_lost_than_were_said_are_found() {
    let report = found(Lie::SayTooFew, JITTER);
    assert_eq!((report.deliveries.told, report.deliveries.lost), (1, 2));
}

#[test]
fn losses_that_do_not_fit_the_position_are_found() {
    let report = found(Lie::SayNoPlace, JITTER);
    assert!(
        says(&report, "that the relay said w"),
        "{:?}",
        report.failures
    );
}

#[test]
fn a_position_of_its_own_epoch_that_the_relay_does_not_know_is_found() {
    let report = found(Lie::SayUnknown, JITTER);
    assert_eq!(report.returns.as_ref().unwrap().forgotten, 1);
    assert!(says(&report, "did not know a position of its own epoch"));
}

#[test]
fn a_message_in_the_place_of_another_is_found() {
    let report = found(Lie::Exchange, JITTER);
    let found = &report.deliveries;
    assert_eq!((found.duplicated, found.lost), (1, 1));
}

#[test]
fn a_close_that_says_another_position_is_found() {
    let report = found(Lie::CloseElsewhere, JITTER);
    assert!(report.deliveries.misplaced > 0);
    assert!(
        says(&report, "that the relay said w"),
        "{:?}",
        report.failures
    );
}

#[test]
fn clients_that_read_events_are_checked_like_all_others() {
    let keeper = Keeper::start(Lie::None);
    for (line, readers) in [
        (format!("{EVENTS} --duration 1s"), 4),
        (format!("{EVENTS} --duration 1s --text"), 4),
        ("fanout --subscribers 4 --sse 1 --patience 5s".to_owned(), 4),
        (
            "fanout --subscribers 4 --sse 25% --text --size 3000 --patience 5s".to_owned(),
            1,
        ),
        (
            "burst --subscribers 4 --sse 0.5 --burst 20 --every 20ms --patience 5s".to_owned(),
            2,
        ),
    ] {
        let report = pass(&format!("{line} --url {}", keeper.url()));
        assert_eq!(report.configuration.sse_subscribers, readers, "{line}");
        // Each life is entered once, so all orders can be compared.
        let is_uncompared = |warning: &String| warning.contains("not compared");
        assert!(!report.warnings.iter().any(is_uncompared), "{line}");
    }
    let report = pass(&format!(
        "idle --subscribers 4 --sse 1 --url {}",
        keeper.url()
    ));
    assert_eq!(report.connections.opened, 4);
}

#[test]
fn an_event_with_the_id_of_another_is_found() {
    let report = found(Lie::MisnumberEvent, EVENTS);
    assert!(report.deliveries.misplaced > 0);
    assert_eq!((report.deliveries.lost, report.deliveries.corrupt), (0, 0));
}

#[test]
fn an_event_with_another_payload_is_found() {
    let report = found(Lie::SpoilEvent, EVENTS);
    assert_eq!(report.deliveries.corrupt, 1);
}

#[test]
fn lies_to_readers_of_events_that_come_back_are_found() {
    for lie in [Lie::Repeat, Lie::Skip, Lie::SayLost, Lie::SayUnknown] {
        found(lie, &EVENTS.replace("50%", "100%"));
    }
}

#[test]
fn messages_are_published_by_post_and_their_positions_are_checked() {
    let keeper = Keeper::start(Lie::None);
    for line in [
        POSTS,
        "fanout --subscribers 4 --publishers 3 --topics 2 --post --pipeline 8 --text --size 3000 --patience 5s",
        "burst --subscribers 3 --publishers 2 --burst 20 --every 20ms --post --sse 34% --patience 5s",
        "jitter --subscribers 6 --cut-every 150ms --away 30ms --publishers 2 --rate 1000 --post --duration 1s --patience 5s",
        "fanout --subscribers 1 --post --window 1 --patience 5s",
    ] {
        let report = pass(&format!("{line} --url {}", keeper.url()));
        let posts = report.posts.unwrap();
        assert_eq!(posts.answers.len(), 1, "{line}: {:?}", posts.answers);
        assert!(posts.answers[&202] > 0 && posts.latency.count > 0, "{line}");
        assert_eq!((posts.unplaced, posts.repeated), (0, 0), "{line}");
        let is_uncompared = |warning: &String| warning.contains("not compared");
        assert!(!report.warnings.iter().any(is_uncompared), "{line}");
    }
}

#[test]
fn a_post_that_is_accepted_and_thrown_away_is_found() {
    let report = found(Lie::DropPost, POSTS);
    assert_eq!(report.deliveries.lost, 4, "for each subscriber");
}

#[test]
fn a_post_that_is_answered_with_the_position_of_another_is_found() {
    let report = found(Lie::MisplacePost, POSTS);
    assert!(report.deliveries.misplaced > 0);
    assert_eq!(report.deliveries.lost, 0);
}

#[test]
fn a_post_that_is_refused_for_good_is_found() {
    for options in [POSTS.to_owned(), format!("{POSTS} --pipeline 4")] {
        let report = found(Lie::RefusePost, &options);
        assert_eq!(report.posts.as_ref().unwrap().answers[&403], 1);
        assert!(
            says(&report, "1 post was refused for good"),
            "{:?}",
            report.failures
        );
    }
}

#[test]
fn a_post_that_is_refused_for_now_is_sent_again() {
    let keeper = Keeper::start(Lie::HoldPost);
    let line =
        "fanout --subscribers 4 --publishers 2 --rate 500 --post --duration 2s --patience 5s";
    let report = pass(&format!("{line} --url {}", keeper.url()));
    let posts = report.posts.unwrap();
    assert_eq!((posts.answers[&503], posts.repeated), (1, 1));
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.contains("sent again"))
    );
}

#[test]
fn a_pipeline_without_posts_is_refused() {
    let error = refused("fanout --url ws://127.0.0.1:1/ --pipeline 2").to_string();
    assert!(error.contains("--post"), "{error}");
}

#[test]
fn a_restart_that_keeps_the_messages_is_an_avalanche() {
    let keeper = Keeper::start(Lie::Restart);
    let line = "jitter --subscribers 12 --topics 2 --publishers 2 --rate 600 --post --sse 50% --cut-every 10m --duration 3s \
                --patience 5s";
    let report = pass(&format!("{line} --url {}", keeper.url()));
    let returns = report.returns.unwrap();
    let avalanche = returns.avalanche.unwrap();
    assert_eq!((avalanche.clients, avalanche.recovered.count), (12, 12));
    assert_eq!((returns.returned, returns.full), (12, 12));
    assert_eq!(report.connections.ended_by_server["1001"], 12);
    let posts = report.posts.unwrap();
    assert!(posts.reopened >= 1 && posts.repeated >= 1, "{posts:?}");
}
