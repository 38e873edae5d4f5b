"""Which panes are there at which size, and how one gets to the others."""

import pytest

LOWER = ["breakdown", "timeline", "waterfall", "modules", "segments", "predicted"]


@pytest.mark.parametrize(
    ("size", "places"),
    [
        ((60, 20), [LOWER]),
        ((80, 24), [LOWER]),
        ((109, 60), [LOWER]),
        ((110, 30), [LOWER[:1], LOWER[1:]]),
        ((160, 50), [LOWER[:1], LOWER[1:2], LOWER[2:3], LOWER[3:]]),
    ],
)
async def test_panes_take_turns_in_as_many_places_as_there_is_room_for(shown, size, places):
    async with shown(size=size) as screen:
        for _ in range(2):
            for number, name in enumerate(LOWER, 3):
                before = set(screen.shown_panes())
                await screen.press(str(number))
                now = set(screen.shown_panes())
                (place,) = (place for place in places if name in place)
                assert name in now
                assert now - set(place) == before - set(place), "only its own place changes"
                for place in places:
                    assert len(now & set(place)) == 1
                await screen.press("2")  # or the same number would enlarge it


async def test_enlarged_every_lower_pane_takes_its_turn(shown):
    async with shown() as screen:
        await screen.press("5", "5")
        for number, name in enumerate(LOWER, 3):
            if name != "waterfall":
                await screen.press(str(number))
            assert screen.shown_panes() == [name]
            assert len(screen.pane(name)) == 48
            await screen.press("5")
            assert screen.shown_panes() == ["waterfall"] or name == "waterfall"
            if name == "waterfall":
                await screen.press("5")


@pytest.mark.parametrize("size", [(80, 24), (60, 20), (160, 50)])
async def test_a_click_on_a_title_leads_to_its_pane(shown, size):
    async with shown(size=size) as screen:
        for number in (6, 7, 6):
            region = screen.app.query_one(f"#{screen.shown_panes()[-1]}").region
            row, start = screen.lines[region.y], region.x
            y = region.y
            await screen.click(row.index(f" {number}", start) + 1, y)
            assert screen.app.focused.id == LOWER[number - 3]


async def test_the_last_chosen_stays_when_the_window_shrinks(shown):
    async with shown() as screen:
        await screen.press("5", "2")
        await screen.pilot.resize_terminal(80, 24)
        await screen.pilot.pause()
        assert screen.shown_panes() == ["devices", "processes", "waterfall"]
        assert "forward ×4" in screen.text


async def test_a_pane_reached_by_mouse_stays_when_the_window_shrinks(shown):
    async with shown() as screen:
        await screen.press("5")
        region = screen.app.query_one("#timeline").region
        await screen.click(region.x + 3, region.y + 4)
        await screen.pilot.resize_terminal(80, 24)
        await screen.pilot.pause()
        assert screen.shown_panes() == ["devices", "processes", "timeline"]
        assert screen.app.focused.id == "timeline"


async def test_the_pane_of_the_last_time_is_in_front_and_in_focus(shown):
    async with shown(size=(80, 24), pane="segments") as screen:
        assert screen.app.focused.id == "segments"
        assert "largest free" in screen.text
        assert screen.app.remembered()["pane"] == "segments"


async def test_rows_that_no_process_can_fill_are_the_panes_below(shown):
    async with shown(size=(160, 50)) as screen:
        assert len(screen.pane("processes")) == 6
        await screen.press("slash", *"grace", "enter")
        assert len(screen.pane("processes")) == 6, "a filter moves nothing"
    async with shown("fleet", size=(160, 50)) as screen:
        assert len(screen.pane("processes")) >= 10
