"""Turns: nobody's questions keep another's waiting, and one whose asker has gone ends."""

import asyncio
import threading

import pytest
from anyio import to_thread

from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.turns import MOST_WAITING, Turns, check_wanted, to_its_end, while_here


def test_who_asks_much_waits_behind_who_asks_little():
    order, running = [], []

    async def ask(turns, who, each=1):
        async with turns.turn(who, each):
            order.append(who)
            running.append(who)
            assert running.count(who) <= each
            await asyncio.sleep(0)
            running.remove(who)

    async def many():
        turns = Turns(1)
        await asyncio.gather(*(ask(turns, who) for who in "aaaaabbc"))
        assert (turns._free, turns._running, turns._waiting) == (1, {}, {})
        wide = Turns(4)
        await asyncio.gather(*(ask(wide, who, 2) for who in "aaaaaabb"))

    asyncio.run(many())
    assert "".join(order[:8]) == "aabcabaa"  # the second of a came before anybody else


def test_of_one_who_asks_only_so_many_wait():
    async def many():
        turns, held, refused = Turns(1), asyncio.Event(), 0

        async def ask(who="a"):
            async with turns.turn(who, 1):
                await held.wait()

        asking = [asyncio.ensure_future(ask()) for _ in range(MOST_WAITING + 6)]
        other = asyncio.ensure_future(ask("b"))
        await asyncio.sleep(0)
        refused = sum(task.done() and isinstance(task.exception(), RefusedError) for task in asking)
        for task in asking[1:30]:
            task.cancel()  # whoever goes takes nobody's place
        held.set()
        await asyncio.gather(*asking, other, return_exceptions=True)
        return refused, other.exception(), turns._free

    assert asyncio.run(many()) == (5, None, 1)


def test_a_question_whose_asker_has_gone_ends_and_keeps_its_place_until_then():
    begun, seen, turns = threading.Event(), [], Turns(1)
    go_on = threading.Event()

    def work():
        begun.set()
        assert go_on.wait(5)
        seen.append("place taken" if turns._free == 0 else "place free")
        check_wanted()
        seen.append("went on")

    async def asked():
        async with turns.turn("me", 1):
            return await to_its_end(to_thread.run_sync(work))

    async def leaves():
        await asyncio.to_thread(begun.wait, 5)
        asyncio.get_running_loop().call_later(0.05, go_on.set)
        return {"type": "http.disconnect"}

    async def stays():
        await asyncio.Event().wait()

    with pytest.raises(ConnectionResetError):
        asyncio.run(while_here(leaves, asked))
    assert (seen, turns._free) == (["place taken"], 1)
    assert asyncio.run(while_here(stays, asked)) is None
    assert seen[1:] == ["place taken", "went on"]


def test_what_a_question_raises_is_raised_to_who_asked():
    async def asked():
        raise KeyError("wrong")

    async def stays():
        await asyncio.Event().wait()

    with pytest.raises(KeyError):
        asyncio.run(while_here(stays, asked))
    check_wanted()  # outside of questions nobody is gone
