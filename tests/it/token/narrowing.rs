//! Narrowing: a block that is added never allows more.

use proptest::prelude::*;

use super::*;

fn narrowed(world: &World, narrowing: &Narrowing) -> String {
    attenuate(&world.token(), narrowing).unwrap().expose().to_owned()
}

fn refusal(block: usize, check: &str) -> TokenError {
    TokenError::Narrowed {
        block,
        check: check.to_owned(),
    }
}

#[test]
fn each_dimension_narrows_and_the_refusal_names_block_and_check() {
    let (world, wish) = (World::new(1), Wish::new());
    let forward = wish.forward("POST", "/v1/chat/completions");
    let cases = [
        (
            Narrowing {
                prims: vec![name("prim-infer")],
                ..Narrowing::default()
            },
            wish.resolve(),
            "only prim prim-infer",
        ),
        (
            Narrowing {
                vendors: vec![name("stripe"), name("github")],
                ..Narrowing::default()
            },
            wish.resolve(),
            "only vendors github, stripe",
        ),
        (
            Narrowing {
                scopes: vec![scope("models:read")],
                ..Narrowing::default()
            },
            wish.resolve(),
            "only scope models:read",
        ),
        (
            Narrowing {
                uses: vec![UseKind::Manage],
                ..Narrowing::default()
            },
            wish.resolve(),
            "only to manage",
        ),
        (
            Narrowing {
                until: Some(now()),
                ..Narrowing::default()
            },
            wish.resolve(),
            "valid until 2026-11-20T20:31:07Z",
        ),
        (
            Narrowing {
                methods: vec!["GET".into()],
                ..Narrowing::default()
            },
            forward,
            "only method GET",
        ),
        (
            Narrowing {
                path_prefixes: vec!["/v1/models/".into()],
                ..Narrowing::default()
            },
            forward,
            "only paths that begin with `/v1/models/`",
        ),
        // What is not said in the request cannot satisfy a check on it.
        (
            Narrowing {
                prims: vec![name("prim-echo")],
                ..Narrowing::default()
            },
            forward,
            "only prim prim-echo",
        ),
    ];
    for (narrowing, ask, words) in cases {
        let token = narrowed(&world, &narrowing);
        assert_eq!(world.authorize(&token, &ask), Err(refusal(1, words)));
    }
}

#[test]
fn a_token_narrowed_to_the_very_request_is_good_and_keeps_its_prefix() {
    let (world, wish) = (World::new(1), Wish::new());
    let narrowing = Narrowing {
        prims: vec![],
        vendors: vec![name("openrouter")],
        scopes: vec![scope("inference:write")],
        uses: vec![UseKind::Forward],
        until: Some(now().plus(Ttl::from_millis(90_500))),
        methods: vec!["POST".into(), "GET".into()],
        path_prefixes: vec!["/v1/".into()],
        seal: false,
    };
    let token = narrowed(&world, &narrowing);
    let yes = world.authorize(&token, &wish.forward("GET", "/v1/x")).unwrap();
    assert!(token.starts_with("dkt_test_"));
    assert_eq!(
        (yes.until, yes.pinned, yes.pinned_until),
        (now().plus(Ttl::from_secs(90)), None, None)
    );
}

#[test]
fn nothing_to_narrow_adds_no_block() {
    let world = World::new(1);
    let token = world.token();
    assert_eq!(attenuate(&token, &Narrowing::default()).unwrap().expose(), token);
}

#[test]
fn the_second_block_is_named_when_it_refuses_and_the_first_when_both_do() {
    let (world, wish) = (World::new(1), Wish::new());
    let only = |prim: &str| Narrowing {
        prims: vec![name(prim)],
        ..Narrowing::default()
    };
    let two = |first: &str, second: &str| {
        let once = narrowed(&world, &only(first));
        attenuate(&once, &only(second)).unwrap().expose().to_owned()
    };
    let ask = wish.resolve();
    assert_eq!(
        world.authorize(&two("prim-echo", "prim-b"), &ask),
        Err(refusal(2, "only prim prim-b"))
    );
    assert_eq!(
        world.authorize(&two("prim-a", "prim-b"), &ask),
        Err(refusal(1, "only prim prim-a"))
    );
    let late = Ask {
        now: now().plus(Ttl::from_mins(16)),
        ..ask
    };
    let expired = world.authorize(&two("prim-a", "prim-b"), &late);
    assert!(
        matches!(expired, Err(TokenError::Expired { .. })),
        "the authority's no comes first"
    );
}

#[test]
fn a_pin_is_one_prim_in_an_added_block_and_its_bound_is_that_blocks() {
    let (mut world, wish) = (World::new(1), Wish::new());
    let soon = now().plus(Ttl::from_mins(5));
    let pin = |until| Narrowing {
        prims: vec![name("prim-echo")],
        until,
        ..Narrowing::default()
    };
    let pinned = |world: &World, token: &str| {
        let yes = world.authorize(token, &wish.resolve()).unwrap();
        (yes.pinned, yes.pinned_until)
    };
    let echo = Some(name("prim-echo"));
    assert_eq!(pinned(&world, &world.token()), (None, None));
    assert_eq!(
        pinned(&world, &narrowed(&world, &pin(Some(soon)))),
        (echo.clone(), Some(soon))
    );
    assert_eq!(pinned(&world, &narrowed(&world, &pin(None))), (echo.clone(), None));
    let two = Narrowing {
        prims: vec![name("prim-echo"), name("prim-infer")],
        until: Some(soon),
        ..Narrowing::default()
    };
    assert_eq!(pinned(&world, &narrowed(&world, &two)), (None, None));
    let elsewhere = Narrowing {
        until: Some(soon),
        ..Narrowing::default()
    };
    let apart = attenuate(&narrowed(&world, &pin(None)), &elsewhere).unwrap();
    assert_eq!(pinned(&world, apart.expose()), (echo.clone(), None));
    let either = append(
        &world.token(),
        datalog(
            "check if ask_prim(\"prim-echo\") or ask_use(\"resolve\"); check if time($t), $t < 2026-11-20T20:36:07Z;",
        ),
    );
    assert_eq!(pinned(&world, &either), (None, None));
    let half = append(
        &world.token(),
        datalog(
            "check if ask_prim(\"prim-echo\"); check if time($t), $t < 2026-11-20T20:36:07Z or ask_use(\"resolve\");",
        ),
    );
    assert_eq!(pinned(&world, &half), (echo, None));
    world.audience = vec![name("prim-echo")];
    assert_eq!(
        pinned(&world, &world.token()),
        (None, None),
        "the authority block does not pin"
    );
}

#[test]
fn until_is_the_next_moment_at_which_the_answer_may_change() {
    let (world, wish) = (World::new(1), Wish::new());
    let either = append(
        &world.token(),
        datalog(
            "check if time($t), $t <= 2026-11-20T20:32:06Z, ask_prim(\"prim-echo\")
               or time($t), $t < 2026-11-20T20:40:07Z, ask_prim(\"prim-infer\")",
        ),
    );
    let at = |secs: i64| {
        let ask = Ask {
            now: now().plus(Ttl::from_secs(secs)),
            ..wish.resolve()
        };
        world.authorize(&either, &ask)
    };
    let minute = now().plus(Ttl::from_secs(60));
    assert_eq!(at(0).map(|yes| yes.until), Ok(minute));
    assert!(at(59).is_ok() && at(60).is_err());
}

#[test]
fn a_final_token_takes_no_block() {
    let (world, wish) = (World::new(1), Wish::new());
    let seal = Narrowing {
        seal: true,
        ..Narrowing::default()
    };
    let sealed = narrowed(&world, &seal);
    assert!(world.authorize(&sealed, &wish.resolve()).is_ok());
    assert_eq!(attenuate(&sealed, &seal).err(), Some(TokenError::Final));
    let more = Narrowing {
        vendors: vec![name("openrouter")],
        ..Narrowing::default()
    };
    assert_eq!(attenuate(&sealed, &more).err(), Some(TokenError::Final));
    assert_eq!(attenuate(&sealed, &Narrowing::default()).unwrap().expose(), sealed);
}

#[test]
fn narrowing_past_the_profile_is_refused_at_once() {
    let world = World::new(1);
    let more = Narrowing {
        vendors: vec![name("openrouter")],
        ..Narrowing::default()
    };
    let mut token = world.token();
    for _ in 0..4 {
        token = attenuate(&token, &more).unwrap().expose().to_owned();
    }
    assert!(world.parse(&token).is_ok());
    let fifth = attenuate(&token, &more).err().map(|error| error.to_string());
    assert_eq!(
        fifth.as_deref(),
        Some("the token breaks the profile: block 5 is one too many: 6 blocks where 5 may stand")
    );
    let large = Narrowing {
        path_prefixes: vec!["/".repeat(8 * 1024)],
        ..Narrowing::default()
    };
    assert_eq!(attenuate(&world.token(), &large).err(), Some(TokenError::TooLarge));
}

#[test]
fn text_in_a_narrowing_is_never_syntax() {
    let (world, wish) = (World::new(1), Wish::new());
    for hostile in [
        "\"); allow if true; //",
        "/v1/\n\r\u{1b}[2J",
        "$x",
        "{p}",
        "\\",
        "\u{202e}",
    ] {
        let narrowing = Narrowing {
            path_prefixes: vec![hostile.to_owned()],
            ..Narrowing::default()
        };
        let token = narrowed(&world, &narrowing);
        let path = format!("{hostile}rest");
        assert!(world.authorize(&token, &wish.forward("GET", &path)).is_ok());
        let error = world.authorize(&token, &wish.forward("GET", "/other")).unwrap_err();
        assert!(!error.to_string().contains(|c: char| c.is_control()), "{error}");
    }
}

#[test]
fn a_narrowed_token_has_its_parents_revocation_ids_and_one_more() {
    let world = World::new(1);
    let parent = world.token();
    let narrowing = Narrowing {
        vendors: vec![name("openrouter")],
        ..Narrowing::default()
    };
    let child = attenuate(&parent, &narrowing).unwrap();
    let (parent, child) = (
        revocation_ids(&parent).unwrap(),
        revocation_ids(child.expose()).unwrap(),
    );
    assert_eq!((parent.len(), child.len()), (1, 2));
    assert_eq!(parent.first(), child.first());
    assert_eq!(child[1].len(), 128);
}

const PRIMS: [&str; 3] = ["prim-echo", "prim-infer", "prim-other"];
const VENDORS: [&str; 3] = ["openrouter", "stripe", "github"];
const SCOPES: [&str; 3] = ["inference:write", "refunds:write", "admin:write"];
const METHODS: [&str; 3] = ["GET", "POST", "get"];
const PATHS: [&str; 4] = ["/", "/v1/", "/v1/chat/completions", "/v2/admin"];
const USES: [UseKind; 3] = [UseKind::Resolve, UseKind::Forward, UseKind::Manage];

fn some_of<T: Clone + std::fmt::Debug + 'static>(all: &[T; 3]) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![2 => Just(Vec::new()), 3 => proptest::sample::subsequence(all.to_vec(), 1..=3)]
}

fn moment() -> impl Strategy<Value = Timestamp> {
    (-60_000i64..1_000_000).prop_map(|millis| Timestamp::from_millis(now().as_millis() + millis))
}

prop_compose! {
    fn narrowing()(
        prims in some_of(&PRIMS),
        vendors in some_of(&VENDORS),
        scopes in some_of(&SCOPES),
        uses in some_of(&USES),
        methods in some_of(&METHODS),
        paths in proptest::collection::vec(proptest::sample::select(PATHS.to_vec()), 0..=4),
        until in proptest::option::of(moment()),
    ) -> Narrowing {
        Narrowing {
            prims: prims.into_iter().map(name).collect(),
            vendors: vendors.into_iter().map(name).collect(),
            scopes: scopes.into_iter().map(scope).collect(),
            uses,
            methods: methods.into_iter().map(ToOwned::to_owned).collect(),
            path_prefixes: paths.into_iter().map(ToOwned::to_owned).collect(),
            until,
            seal: false,
        }
    }
}

/// A check as any library might write it, within the profile or not.
fn datalog_check() -> impl Strategy<Value = String> {
    let word =
        proptest::sample::select([&PRIMS[..], &VENDORS, &SCOPES, &METHODS, &PATHS, &["resolve", "manage"]].concat());
    let subject = proptest::sample::select(vec!["vendor", "scope", "use", "prim", "method", "path"]);
    let secs = -60i64..1000;
    let atom = prop_oneof![
        (subject.clone(), word.clone()).prop_map(|(s, w)| format!("ask_{s}(\"{w}\")")),
        (subject.clone(), word.clone()).prop_map(|(s, w)| format!("ask_{s}($x), $x != \"{w}\"")),
        (subject.clone(), word.clone()).prop_map(|(s, w)| format!("ask_{s}($x), !$x.starts_with(\"{w}\")")),
        (subject.clone(), word.clone()).prop_map(|(s, w)| format!("ask_{s}($x), $x.contains(\"{w}\") ||! $x == \"/\"")),
        (subject.clone(), 0i64..20).prop_map(|(s, n)| format!("ask_{s}($x), $x.length() > {n}")),
        secs.clone().prop_map(|s| format!(
            "time($t), $t < {}",
            now().plus(Ttl::from_secs(900)).minus(Ttl::from_secs(s))
        )),
        secs.prop_map(|s| format!("time($t), $t <= {}", now().plus(Ttl::from_secs(s)))),
        Just("true".to_owned()),
        Just("false".to_owned()),
        Just("right($v, $s)".to_owned()),
        Just("time($t), $t > 2020-01-01T00:00:00Z".to_owned()),
    ];
    let kind = prop_oneof![9 => Just("check if"), 1 => Just("check all"), 1 => Just("reject if")];
    (kind, proptest::collection::vec(atom, 1..4)).prop_map(|(kind, atoms)| format!("{kind} {};", atoms.join(" or ")))
}

/// An extra fact or rule that tries to widen.
fn widening() -> impl Strategy<Value = String> {
    let lines = vec![
        String::new(),
        "right(\"github\", \"admin:write\");".to_owned(),
        "ask_prim(\"prim-echo\");".to_owned(),
        "time(2020-01-01T00:00:00Z);".to_owned(),
        "right($v, $s) <- ask_vendor($v), ask_scope($s);".to_owned(),
    ];
    proptest::sample::select(lines)
}

#[derive(Debug, Clone)]
struct Asked {
    at: Timestamp,
    use_kind: UseKind,
    prim: Option<Name>,
    vendor: Option<Name>,
    scope: Option<Scope>,
    method: Option<&'static str>,
    path: Option<&'static str>,
}

prop_compose! {
    fn asked()(
        at in moment(),
        use_kind in proptest::sample::select(USES.to_vec()),
        prim in proptest::option::of(proptest::sample::select(PRIMS.to_vec())),
        vendor in proptest::option::weighted(0.9, proptest::sample::select(VENDORS.to_vec())),
        wanted in proptest::option::weighted(0.9, proptest::sample::select(SCOPES.to_vec())),
        method in proptest::option::of(proptest::sample::select(METHODS.to_vec())),
        path in proptest::option::of(proptest::sample::select(PATHS.to_vec())),
    ) -> Asked {
        Asked { at, use_kind, prim: prim.map(name), vendor: vendor.map(name), scope: wanted.map(scope), method, path }
    }
}

impl Asked {
    fn ask(&self) -> Ask<'_> {
        Ask {
            now: self.at,
            use_kind: self.use_kind,
            prim: self.prim.as_ref(),
            vendor: self.vendor.as_ref(),
            scope: self.scope.as_ref(),
            method: self.method,
            path: self.path,
        }
    }

    /// What the words of a narrowing say, without any Datalog.
    fn fits(&self, narrowing: &Narrowing) -> bool {
        fn one_of<T: PartialEq>(all: &[T], value: Option<&T>) -> bool {
            all.is_empty() || value.is_some_and(|value| all.contains(value))
        }
        one_of(&narrowing.prims, self.prim.as_ref())
            && one_of(&narrowing.vendors, self.vendor.as_ref())
            && one_of(&narrowing.scopes, self.scope.as_ref())
            && one_of(&narrowing.uses, Some(&self.use_kind))
            && one_of(&narrowing.methods, self.method.map(ToOwned::to_owned).as_ref())
            && narrowing.until.is_none_or(|until| self.at.as_secs() < until.as_secs())
            && (narrowing.path_prefixes.is_empty()
                || (narrowing.path_prefixes.iter())
                    .any(|prefix| self.path.is_some_and(|path| path.starts_with(prefix.as_str()))))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// I5, and its converse: a narrowed token allows exactly what its parent allows and the narrowing says.
    #[test]
    fn a_narrowed_token_allows_exactly_the_intersection(
        first in narrowing(),
        second in narrowing(),
        wishes in proptest::collection::vec(asked(), 4),
    ) {
        let world = World::new(3);
        let parent = world.token();
        let child = attenuate(&parent, &first).unwrap();
        let grandchild = attenuate(child.expose(), &second).unwrap();
        for wish in wishes {
            let parents = world.authorize(&parent, &wish.ask()).is_ok();
            let childs = world.authorize(child.expose(), &wish.ask()).is_ok();
            let grandchilds = world.authorize(grandchild.expose(), &wish.ask()).is_ok();
            prop_assert_eq!(childs, parents && wish.fits(&first));
            prop_assert_eq!(grandchilds, childs && wish.fits(&second));
        }
    }

    /// I5 for blocks any library may write: refused, or no wider; never a failure to evaluate.
    #[test]
    fn a_block_of_any_making_never_allows_more(
        checks in proptest::collection::vec(datalog_check(), 0..4),
        extra in widening(),
        wishes in proptest::collection::vec(asked(), 4),
    ) {
        let world = World::new(3);
        let parent = world.token();
        let child = append(&parent, datalog(&format!("{extra}{}", checks.concat())));
        let Ok(child) = world.parse(&child) else { return Ok(()) };
        prop_assert!(extra.is_empty(), "facts and rules must not pass");
        for wish in wishes {
            match world.verifier().authorize(&child, &wish.ask()) {
                Ok(yes) => {
                    prop_assert!(world.authorize(&parent, &wish.ask()).is_ok());
                    prop_assert!(yes.until > wish.at);
                    let last = Ask { now: yes.until.minus(Ttl::from_millis(1)), ..wish.ask() };
                    prop_assert!(world.verifier().authorize(&child, &last).is_ok(), "the answer holds until then");
                }
                Err(TokenError::Internal(words)) => prop_assert!(false, "{}", words),
                Err(_) => {}
            }
        }
    }
}
