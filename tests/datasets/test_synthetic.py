"""The synthetic scene: deterministic to the bit, labelled exactly, plausible in size and speed."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comemory.datasets.scene.bodies import RUN, WALK, Appearance, Gait, pedestrian
from comemory.datasets.scene.camera import SceneCamera, draw
from comemory.datasets.scene.day import LONGEST, crowd_at, sun_at
from comemory.datasets.scene.settings import SceneSettings, read_settings
from comemory.datasets.scene.traffic import CROSSING, KINDS, VERGE, WALKING_SPEED, Traffic, WalkPath
from comemory.datasets.synthetic import Synthetic, SyntheticSource
from comemory.errors import ConfigError
from comemory.types import Dataset, LabelledSource, Source

SMALL = "size=60x90,frames=240,training=1,testing=4,crowd=5"


def source_of(clip: LabelledSource) -> SyntheticSource:
    assert isinstance(clip.source, SyntheticSource)
    return clip.source


def sources(spec: str) -> list[SyntheticSource]:
    return [source_of(clip) for clip in Synthetic(spec).testing()]


@pytest.fixture(scope="module")
def testing() -> list[LabelledSource]:
    return Synthetic(SMALL).testing()


def test_follows_the_protocols(testing: list[LabelledSource]) -> None:
    dataset = Synthetic("")
    assert isinstance(dataset, Dataset)
    assert (dataset.name, dataset.rate_hz) == ("synthetic", 10.0)
    assert all(isinstance(clip.source, Source) for clip in testing)
    assert [clip.name for clip in testing] == ["01", "02", "03", "04"]


def test_frames_are_rgb_with_their_time_and_index() -> None:
    source = source_of(Synthetic("size=48x72,frames=16,training=1,rate=12.5").training()[0])
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(16))
    assert [frame.time_s for frame in frames] == pytest.approx([index / 12.5 for index in range(16)])
    assert all(frame.image.shape == (48, 72, 3) and frame.image.dtype == np.uint8 for frame in frames)
    assert (source.rate_hz, len(source)) == (12.5, 16)
    lawn = frames[0].image[-3:].mean(axis=(0, 1))
    assert lawn[1] > lawn[2]
    assert frames[0].image.std() > 15


def test_iterating_twice_gives_the_same_bits() -> None:
    source = source_of(Synthetic("size=48x72,frames=16,training=1").training()[0])
    for first, second in zip(source, source, strict=True):
        assert np.array_equal(first.image, second.image)


def test_a_clip_does_not_depend_on_the_others() -> None:
    spec = "size=48x72,frames=120,crowd=12,testing="
    many = Synthetic(f"{spec}4").testing()
    for clip in many:
        source_of(clip).image(100)
    few = Synthetic(f"{spec}4,training=0").testing()[3]
    assert np.array_equal(source_of(many[3]).image(25), source_of(few).image(25))
    assert many[3].labels is not None
    assert few.labels is not None
    assert np.array_equal(many[3].labels, few.labels)


def test_a_frame_does_not_depend_on_the_frames_before_it() -> None:
    one, other = (source_of(Synthetic("size=48x72,frames=30,training=1").training()[0]) for _ in range(2))
    frames = [frame.image for frame in one]
    assert np.array_equal(other.image(29), frames[29])
    assert np.array_equal(other.image(3), frames[3])


def test_another_process_renders_the_same_bits() -> None:
    program = (
        "from comemory.datasets.synthetic import Synthetic; import zlib; "
        "c = Synthetic('size=48x72,frames=40,testing=1,seed=5').testing()[0]; "
        "print(zlib.crc32(c.source.image(20).tobytes()), int(c.labels.sum()))"
    )
    runs = {
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(runs) == 1


def test_seed_split_and_clip_change_the_image() -> None:
    pictures = [
        source_of(clip).image(8)
        for seed in (0, 1)
        for dataset in [Synthetic(f"size=48x72,frames=16,training=2,testing=1,seed={seed}")]
        for clip in [*dataset.training(), *dataset.testing()]
    ]
    for number, picture in enumerate(pictures):
        assert all(np.abs(picture.astype(int) - other).mean() > 0.5 for other in pictures[:number])


def test_training_holds_nothing_abnormal() -> None:
    clip = Synthetic(SMALL).training()[0]
    assert clip.labels is not None
    assert clip.labels.shape == (240,)
    assert not clip.labels.any()
    source = source_of(clip)
    assert source.tracks == ()
    assert not source.labels.any()
    assert not source.mask(120).any()


def test_labels_are_true_where_the_mask_has_a_pixel(testing: list[LabelledSource]) -> None:
    for clip in testing:
        assert clip.labels is not None
        assert clip.mask is not None
        assert clip.n_frames == len(clip.labels) == 240
        seen = [clip.mask(index).any() for index in range(240)]
        assert clip.labels.tolist() == seen
        assert clip.mask(0).shape == (60, 90)
        assert clip.mask(0).dtype == np.bool_


def test_every_clip_has_normal_frames_before_and_after(testing: list[LabelledSource]) -> None:
    for clip in testing:
        assert clip.labels is not None
        abnormal = np.flatnonzero(clip.labels)
        assert abnormal[0] >= 2
        assert abnormal[-1] < 239


def test_tracks_are_the_boxes_of_the_masks(testing: list[LabelledSource]) -> None:
    for clip in testing:
        source = source_of(clip)
        for index in np.flatnonzero(source.labels)[::7].tolist():
            mask = source.mask(index)
            rows, columns = np.nonzero(mask)
            boxes = [track.boxes[index] for track in source.tracks if index in track.boxes]
            left, top, right, bottom = (np.array(boxes)[:, k] for k in range(4))
            assert (left.min(), top.min()) == (columns.min(), rows.min())
            assert (right.max(), bottom.max()) == (columns.max() + 1, rows.max() + 1)


def test_four_clips_show_every_kind() -> None:
    shown = [source.kinds for source in sources("size=48x72,frames=330")]
    assert {kind for kinds in shown for kind in kinds} == set(KINDS)
    assert all(1 <= len(kinds) <= 2 for kinds in shown)


def test_kinds_choose_the_anomalies() -> None:
    assert [source.kinds for source in sources("size=48x72,frames=240,testing=2,kinds=cart")] == [("cart",)] * 2
    shown = {source.kinds for source in sources("size=48x72,frames=200,testing=2,kinds=dropped+wrong_way")}
    assert shown == {("dropped",), ("wrong_way",)}


@pytest.mark.parametrize("kind", KINDS)
def test_the_mask_lies_on_the_object(kind: str) -> None:
    """Where the mask is, the picture differs from the same clip without the object; elsewhere only by its shadow."""
    source = sources(f"size=120x180,frames=240,testing=1,crowd=0,light=0,kinds={kind}")[0]
    (track,) = source.tracks
    frames = sorted(track.boxes)
    index, empty = frames[len(frames) // 2], 0
    stage = source._stage
    stage._weather.shifts[:] = 0
    difference = np.abs(source.image(index).astype(int) - source.image(empty)).max(axis=2)
    mask = source.mask(index)
    assert (difference[mask] > 6).mean() > 0.8
    near = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
    if kind != "dropped":
        left, top, right, bottom = track.boxes[index]
        above = np.zeros_like(mask)
        above[top : (top + bottom) // 2, left:right] = True
        assert not (difference[above & ~near] > 60).any()


def test_an_object_behind_another_is_not_labelled_there() -> None:
    """The mask of a crowded clip is the mask of the clip without a crowd, less what others cover."""
    crowded = sources("size=120x180,frames=240,testing=1,crowd=40,kinds=runner,seed=2")[0]
    alone = sources("size=120x180,frames=240,testing=1,crowd=0,kinds=runner,seed=2")[0]
    hidden = 0
    for index in sorted(alone.tracks[0].boxes)[::5]:
        own, whole = crowded.mask(index), alone.mask(index)
        assert not (own & ~whole).any()
        hidden += int((whole & ~own).sum())
    assert hidden > 20


@pytest.mark.parametrize("size", ["97x131", "32x32", "64x33", "33x99", "720x1280"])
def test_any_size(size: str) -> None:
    height, width = (int(side) for side in size.split("x"))
    clip = Synthetic(f"size={size},frames=20,testing=1,kinds=cart").testing()[0]
    source = source_of(clip)
    assert source.image(0).shape == (height, width, 3)
    assert clip.mask is not None
    assert clip.mask(19).shape == (height, width)
    for track in source.tracks:
        for left, top, right, bottom in track.boxes.values():
            assert 0 <= left < right <= width
            assert 0 <= top < bottom <= height


def test_short_clips_still_begin_with_normal_frames() -> None:
    for source in sources("size=48x72,frames=16,testing=6"):
        assert not source.labels[:2].any()
        assert source.labels.any() or set(source.kinds) <= set(CROSSING)


def test_people_shrink_with_distance_exactly_as_the_ground_does() -> None:
    camera = SceneCamera(480, 720)
    look = Appearance.random(np.random.default_rng(0))
    heights = []
    for across in (-4.0, 4.0):
        view = camera.view(0.0, across, 0.0)
        sprite = draw(pedestrian(look, view, 0.3, WALK), view, camera)
        assert sprite is not None
        heights.append(np.flatnonzero(sprite.pixels[..., 3].any(axis=1)).size / view.scale)
    assert camera.view(0.0, 4.0, 0.0).scale > 1.4 * camera.view(0.0, -4.0, 0.0).scale
    assert heights[0] == pytest.approx(heights[1], rel=0.06)
    assert 1.4 < heights[0] < 2.2


@given(st.floats(-8, 8), st.floats(-6, 6), st.floats(-0.15, 0.15))
@settings(deadline=None, max_examples=50)
def test_the_view_is_the_slope_of_the_projection(along: float, across: float, yaw: float) -> None:
    camera = SceneCamera(240, 360, yaw)
    view, step = camera.view(along, across, 0.0), 1e-4
    foot = np.array(camera.pixel(along, across))
    assert np.allclose(view.foot, foot)
    ahead = (np.array(camera.pixel(along + step, across)) - foot) / step
    right = (np.array(camera.pixel(along, across + step)) - foot) / step
    up = (np.array(camera.pixel(along, across, step)) - foot) / step
    assert np.allclose(view.solid, [ahead, up, right], atol=0.02)


@given(st.floats(-5, 5), st.floats(-0.15, 0.15))
@settings(deadline=None, max_examples=30)
def test_span_is_where_the_borders_cut_a_lane(across: float, yaw: float) -> None:
    camera = SceneCamera(240, 360, yaw)
    left, right = camera.span(across)
    assert camera.pixel(left, across)[0] == pytest.approx(0, abs=1e-6)
    assert camera.pixel(right, across)[0] == pytest.approx(360, abs=1e-6)


@pytest.mark.parametrize(("gait", "metres"), [(WALK, 0.065), (RUN, 0.17)])
def test_legs_swing_smoothly_and_stand_on_the_ground(gait: Gait, metres: float) -> None:
    look = Appearance.random(np.random.default_rng(1))
    view = SceneCamera(240, 360).view(0.0, 0.0, 0.0)
    bodies = [pedestrian(look, view, 2 * np.pi * metres * k / gait.cycle, gait) for k in range(60)]
    points = np.array([body.points for body in bodies])
    steps = np.linalg.norm(np.diff(points, axis=0), axis=2)
    assert steps.max() < 4.5 * metres
    ankles = points[..., 1].min(axis=1)
    assert np.all(ankles > -0.08)
    assert np.all(ankles < 0.2)
    assert np.ptp(points[:, :, 0], axis=0).max() > 0.4


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_walkers_keep_their_lane_and_never_jump(drift: float) -> None:
    traffic = Traffic(SceneCamera(240, 360, 0.1), np.random.default_rng(3), 300, 10.0)
    traffic.add_walkers(10.0, drift)
    assert len(traffic.actors) > 15
    for actor in traffic.actors:
        places = np.array([actor.route.at(frame)[:2] for frame in range(actor.first, actor.last + 1)])
        steps = np.diff(places[:, 0]) * actor.route.direction * 10
        assert steps.min() > 0.8 * WALKING_SPEED[0]
        assert steps.max() < 1.2 * WALKING_SPEED[1]
        assert np.all(places[:, 1] * actor.route.direction > 1)
        assert np.all(np.abs(places[:, 1]) < VERGE)


def test_actors_appear_and_disappear_outside_the_image() -> None:
    for seed in range(3):
        source = sources(f"size=60x90,frames=300,testing=1,seed={seed}")[0]
        camera = source._stage._camera
        for actor in source._stage.actors:
            if actor.kind != "dropped":
                for frame in (actor.first, actor.last):
                    x, _ = camera.pixel(*actor.route.at(frame)[:2])
                    assert x < 0 or x > 90


def test_the_crowd_has_the_size_asked_for() -> None:
    for crowd in (4, 16):
        means = []
        for clip in Synthetic(f"size=48x72,frames=400,training=3,crowd={crowd}").training():
            stage = source_of(clip)._stage
            for index in range(0, 400, 25):
                means.append(sum(0 <= view.foot[0] < 72 for _, view in stage._present(index)))
        assert np.mean(means) == pytest.approx(crowd, rel=0.3)


def test_light_drifts_slowly() -> None:
    even, drifting = (
        [source.image(index).mean() for index in range(0, 600, 50)]
        for light in (0, 1)
        for source in [source_of(Synthetic(f"size=48x72,frames=600,training=1,crowd=0,light={light}").training()[0])]
    )
    assert np.ptp(even) < 1
    assert np.ptp(drifting) > 25
    assert np.abs(np.diff(drifting)).max() < 20


def test_speeds_in_the_image_are_in_their_ranges() -> None:
    """Pixels per frame at 240x360 of the point on the ground: strollers, then what is faster at the same depth."""
    camera = SceneCamera(240, 360)
    rng = np.random.default_rng(0)
    bands = {"cart": (2.3, 4.0), "runner": (2.3, 4.0), "cyclist": (1.7, 2.8), "skater": (1.9, 3.0)}
    for kind, (low, high) in bands.items():
        for _ in range(10):
            traffic = Traffic(camera, rng, 400, 10.0)
            traffic.add_anomalies([kind])
            assert low < _pixels(camera, traffic.actors[0].route) < high
    traffic = Traffic(camera, rng, 400, 10.0)
    traffic.add_walkers(20.0, 0.0)
    speeds = [_pixels(camera, actor.route) for actor in traffic.actors]
    assert min(speeds) > 0.7
    assert max(speeds) < 2.0


def _pixels(camera: SceneCamera, route: WalkPath) -> float:
    return route.speed * camera.view(0.0, route.lane, 0.0).scale


@pytest.mark.parametrize("kind", ["runner", "cart"])
def test_the_flow_of_fast_things_is_larger(kind: str) -> None:
    """DIS flow, divided by the scale at each depth, is larger on a runner or cart than on walkers."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    source = sources(f"frames=240,testing=1,crowd=8,kinds={kind},size=240x360")[0]
    stage = source._stage
    fast: list[float] = []
    normal: list[float] = []
    for index in sorted(source.tracks[0].boxes)[10:-10:16]:
        before, after = (cv2.cvtColor(source.image(k), cv2.COLOR_RGB2GRAY) for k in (index - 1, index))
        speed = np.hypot(*np.moveaxis(flow.calc(before, after, np.zeros((*before.shape, 2), np.float32)), 2, 0))
        for number, view in stage._present(index):
            patch = stage.visible_pixels(number, index)
            if patch is not None and patch.pixels.sum() > 60:
                height, width = patch.pixels.shape
                own = speed[patch.top : patch.top + height, patch.left : patch.left + width][patch.pixels]
                (normal if stage.actors[number].kind == "walker" else fast).append(
                    float(np.percentile(own, 75)) / view.scale
                )
    assert np.median(fast) > 1.5 * np.median(normal)


def test_the_bag_stays_and_is_labelled_only_on_the_ground() -> None:
    source = sources("size=120x180,frames=240,testing=1,crowd=0,light=0,kinds=dropped")[0]
    (track,) = source.tracks
    frames = sorted(track.boxes)
    boxes = np.array([track.boxes[frame] for frame in frames])
    assert frames == list(range(frames[0], frames[-1] + 1))
    assert np.all(np.abs(np.median(boxes, axis=0) - boxes[len(boxes) // 2]) <= 1)
    carriers = [actor for actor in source._stage.actors if actor.bag is not None]
    assert len(carriers) == 2
    for actor, frame in zip(carriers, (frames[0], frames[-1]), strict=True):
        bag = next(other for other in source._stage.actors if other.kind == "dropped")
        assert actor.route.at(frame)[0] == pytest.approx(bag.route.origin, abs=0.15)


def test_wrong_way_is_labelled_only_on_the_lawn() -> None:
    source = sources("size=120x180,frames=240,testing=1,kinds=wrong_way")[0]
    walker = next(actor for actor in source._stage.actors if actor.kind == "wrong_way")
    frames = sorted(source.tracks[0].boxes)
    outside = [frame for frame in range(240) if abs(walker.route.at(frame)[1]) > 5.4]
    assert set(frames) <= set(outside)
    assert len(frames) > 0.8 * len(outside)
    places = np.array([walker.route.at(frame)[:2] for frame in range(240)])
    assert np.linalg.norm(np.diff(places, axis=0), axis=1).max() < 0.15


def test_check_counts() -> None:
    dataset = Synthetic(SMALL)
    check = dataset.check()
    abnormal = sum(int(clip.labels.sum()) for clip in dataset.testing() if clip.labels is not None)
    assert check.found == {
        "training videos": 1,
        "training frames": 240,
        "testing videos": 4,
        "testing frames": 960,
        "abnormal frames": abnormal,
    }
    assert not check.problems
    assert not check.published


def test_frames_outside_the_clip_are_refused() -> None:
    source = source_of(Synthetic("size=48x72,frames=16,training=1").training()[0])
    for index in (-1, 16):
        with pytest.raises(IndexError, match="has frames 0 to 15"):
            source.image(index)
        with pytest.raises(IndexError, match="has frames 0 to 15"):
            source.mask(index)


def test_no_spec_means_the_defaults() -> None:
    assert read_settings("") == read_settings("  ") == SceneSettings()
    assert read_settings("seed=3, frames=300,training=6,testing=4,size=240x360,rate=10").seed == 3
    assert read_settings("kinds=cart+runner").kinds == ("cart", "runner")
    assert read_settings("crowd=2.5,light=1,drift=0.5").crowd == 2.5


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("sed=3", "did you mean 'seed'"),
        ("seed", "expected key=value"),
        ("seed=1,", "expected key=value"),
        ("=1", "expected key=value"),
        ("seed=", "expected key=value"),
        ("seed=1,seed=2", "given twice"),
        ("seed=-1", "a whole number from 0"),
        ("seed=1_0", "a whole number"),
        ("seed=٣", "a whole number"),
        ("frames=15", "from 16"),
        ("frames=99999999999999999999", "a whole number"),
        ("rate=0", "from 1 to 120"),
        ("rate=nan", "a number"),
        ("rate=1e1", "a number"),
        ("light=1.5", "from 0 to 1"),
        ("size=240", "HEIGHTxWIDTH"),
        ("size=8x8", "HEIGHTxWIDTH"),
        ("size=40x3000", "HEIGHTxWIDTH"),
        ("size=0x0", "HEIGHTxWIDTH"),
        ("kinds=car", "did you mean 'cart'"),
        ("kinds=", "expected key=value"),
        ("kinds=cart+cart", "each anomaly once"),
    ],
)
def test_bad_settings_are_refused_with_a_hint(spec: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Synthetic(spec)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)


@given(st.text(max_size=200) | st.text("seedframsizkn=,+x0123456789.\n ", max_size=60))
@settings(deadline=None, max_examples=200)
def test_any_text_is_read_or_refused_in_one_line(text: str) -> None:
    refusal = ""
    try:
        assert isinstance(read_settings(text), SceneSettings)
    except ConfigError as error:
        refusal = str(error)
    assert len(refusal.splitlines()) <= 1
    assert len(refusal) < 400


@given(
    seed=st.integers(0, 2**32 - 1),
    frames=st.integers(16, 10**6),
    height=st.integers(100, 700),
    shape=st.floats(0.6, 2.9),
    crowd=st.decimals(0, 60, places=2),
)
@settings(deadline=None, max_examples=50)
def test_settings_come_back_as_given(seed: int, frames: int, height: int, shape: float, crowd: Decimal) -> None:
    width = round(height * shape)
    read = read_settings(f"seed={seed},frames={frames},size={height}x{width},crowd={crowd}")
    assert read == SceneSettings(seed=seed, frames=frames, size=(height, width), crowd=float(crowd))


DAY = "size=48x72,frames=16,crowd=0,light=0,training=0,kinds=cart"


def test_a_day_is_divided_among_the_clips_of_each_split() -> None:
    dataset = Synthetic("hours=7-19,testing=24,training=6,frames=16,size=48x72")
    for clips, number in ((dataset.testing(), 24), (dataset.training(), 6)):
        hours = [source_of(clip).hours for clip in clips]
        starts = np.array([first for first, _ in hours])  # type: ignore[misc]
        ends = np.array([last for _, last in hours])  # type: ignore[misc]
        assert starts == pytest.approx(np.linspace(7, 19, number + 1)[:-1])
        assert ends == pytest.approx(np.linspace(7, 19, number + 1)[1:])
    assert source_of(Synthetic("").testing()[0]).hours is None


def test_it_is_dark_at_the_ends_of_a_day_and_brightens_towards_noon() -> None:
    clips = [source_of(clip) for clip in Synthetic(f"{DAY},hours=6-20,testing=7").testing()]
    day = [clip.image(0).mean() for clip in clips]
    dusk = clips[-1].image(clips[-1].n_frames - 1).mean()
    assert int(np.argmax(day)) in (2, 3, 4)
    assert np.all(np.diff(day[:3]) > 0)
    assert np.all(np.diff(day[4:]) < 0)
    assert day[3] > 1.3 * max(day[0], dusk)


def test_shadows_go_from_right_to_left_and_are_shortest_at_noon() -> None:
    across = [sun_at(hour)[0] for hour in np.linspace(6, 20, 29)]
    assert np.all(np.diff(across) <= 1e-9)
    assert across[14] == pytest.approx(0, abs=1e-9)
    assert max(map(abs, across)) <= LONGEST
    morning, evening = (
        source_of(Synthetic(f"{DAY},hours={hours},testing=1").testing()[0]).image(0).astype(int)
        for hours in ("8-9", "17-18")
    )
    assert np.abs(morning - evening).max() > 20, "the shadows of the trees lie elsewhere"


def test_the_place_is_the_same_at_every_hour() -> None:
    stages = [source_of(clip)._stage for clip in Synthetic(f"{DAY},hours=7-19,testing=3").testing()]
    assert len({(stage._camera.yaw, len(stage._ground.props)) for stage in stages}) == 1
    assert all(np.array_equal(stages[0]._weather.noise, stage._weather.noise) for stage in stages)


def test_people_come_at_the_rush_hours() -> None:
    assert crowd_at(8) > 2 * crowd_at(10)
    assert crowd_at(17.5) > 2 * crowd_at(15)
    assert min(crowd_at(hour) for hour in range(25)) >= 0.25
    spec = "size=48x72,frames=200,crowd=8,testing=0,training=1,hours="
    present = []
    for hours in ("9.8-10.2", "7.8-8.2"):
        stage = source_of(Synthetic(spec + hours).training()[0])._stage
        present.append(np.mean([len(stage._present(index)) for index in range(0, 200, 20)]))
    assert present[1] > 2 * present[0]


def test_an_hour_is_repeatable_and_hours_leave_the_default_alone() -> None:
    spec = "size=48x72,frames=16,testing=2,hours=12-14"
    one, other = (source_of(Synthetic(spec).testing()[1]).image(7) for _ in range(2))
    assert np.array_equal(one, other)


@pytest.mark.parametrize("value", ["19-7", "7-7", "7-25", "7", "a-b", "-1-5", "7-19-20", "007-19"])
def test_hours_that_are_none_are_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="two hours of a day"):
        Synthetic(f"hours={value}")
