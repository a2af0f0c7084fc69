import gc
import os
import signal

import pytest
from distributed import Client, wait

from phenopipe import compute
from phenopipe.errors import InputError


def square(number, *, plus=0):
    return number * number + plus


def worker_pid(_item):
    return os.getpid()


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_results_come_in_the_items_order(kind):
    seen = []
    with compute.client(kind, workers=2) as client:
        results = compute.map_ordered(
            client,
            square,
            range(20),
            plus=1,
            on_progress=lambda done, total: seen.append((done, total)),
        )
        joined = compute.scheduler_address(client)
        with compute.client(joined) as second:
            assert compute.map_ordered(second, square, [3]) == [9]
    assert results == [n * n + 1 for n in range(20)]
    assert seen == [(n, 20) for n in range(1, 21)]


def test_local_workers_are_processes():
    with compute.client("local", workers=1) as client:
        (pid,) = compute.map_ordered(client, worker_pid, [0])
    assert pid != os.getpid()


def test_local_workers_give_back_large_blocks_only(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with compute.client("local", workers=1) as client:
        environ = client.run(lambda: dict(os.environ))
    (environ,) = environ.values()
    assert int(environ["MALLOC_TRIM_THRESHOLD_"]) == 16 * 2**20  # Dask's own: 65,536
    assert environ["OMP_NUM_THREADS"] == "1"


def clocks(dask_worker):
    return {name: clock.callback_time for name, clock in dask_worker.periodic_callbacks.items()}


def test_a_cluster_looks_after_itself_seldom_and_leaves_the_cores_to_the_work():
    with compute.client("local", workers=1) as client:
        (worker,) = client.run(clocks).values()
        (nanny,) = (clocks(nanny) for nanny in client.cluster.workers.values())
        scheduler = clocks(client.cluster.scheduler)
    assert "profile" not in worker
    assert {told["tick"] for told in (worker, nanny, scheduler)} == {500}  # Dask's own: 20 ms
    assert {told["memory_monitor"] for told in (worker, nanny)} == {500}  # Dask's own: 100 ms


def test_a_failed_item_raises_its_own_error():
    with compute.client("threads", workers=1) as client, pytest.raises(TypeError):
        compute.map_ordered(client, square, ["x"])


def die_the_first_time(path):
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def test_an_item_whose_worker_died_is_run_again(tmp_path):
    with compute.client("local", workers=1) as client:
        paths = [tmp_path / name for name in "ab"]
        assert compute.map_ordered(client, die_the_first_time, paths) == ["a", "b"]


def test_the_death_of_a_worker_is_told_at_once(tmp_path):
    with compute.client("local", workers=1) as client:
        future = compute.submit(client, die_the_first_time, tmp_path / "a")
        wait([future])
        assert compute.is_killed(future)
        assert compute.result_of(compute.submit(client, die_the_first_time, tmp_path / "a")) == "a"


def refuse(item):
    raise InputError(f"expected another item, found {item}")


def test_bad_input_comes_back_in_its_own_words_and_is_not_logged(capfd):
    refused = pytest.raises(InputError, match="found 3")
    with compute.client("local", workers=1) as client, refused:
        compute.map_ordered(client, refuse, [3])
    assert "Traceback" not in capfd.readouterr().err


def test_an_unknown_kind_is_refused_in_words():
    with pytest.raises(InputError, match="found 'abacus'"), compute.client("abacus"):
        pass


def list_clients():
    gc.collect()
    return [thing for thing in gc.get_objects() if type(thing) is Client]


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("tcp://10.0.0.1", r"tcp://host:8786, found 'tcp://10.0.0.1' \(missing port number"),
        ("http://10.0.0.1:8786", "found 'http://10.0.0.1:8786' .unknown address scheme"),
        ("tls://10.0.0.1:8786", "a certificate for the scheduler at tls://10.0.0.1:8786, found no"),
    ],
)
def test_an_address_that_cannot_be_joined_is_refused_before_a_client_is_made(address, told):
    before = list_clients()
    with pytest.raises(InputError, match=told), compute.client(address):
        pass
    # Left to be collected, a client may close itself while the next one starts, and hang with it.
    assert all(any(client is other for other in before) for client in list_clients())


def test_a_kind_that_is_not_installed_says_how_to_install_it():
    pytest.importorskip("distributed")
    try:
        import dask_cuda  # noqa: F401, PLC0415
    except ImportError:
        with pytest.raises(InputError, match=r"phenopipe\[gpu\]"), compute.client("cuda"):
            pass


@pytest.mark.parametrize("kind", ["threads", "local"])
def test_results_are_yielded_in_the_items_order(kind):
    with compute.client(kind, workers=2) as client:
        results = list(compute.stream_ordered(client, square, range(20), plus=1))
        assert not list(compute.stream_ordered(client, square, []))
    assert results == [n * n + 1 for n in range(20)]


def test_no_more_results_are_made_than_wait_to_be_taken(tmp_path):
    paths = [tmp_path / f"{n:02d}" for n in range(20)]
    with compute.client("threads", workers=1) as client:
        results = compute.stream_ordered(client, touch, paths)
        assert next(results) == "00"
        assert len(list(tmp_path.iterdir())) <= 3
        assert [*results] == [path.name for path in paths[1:]]


def touch(path):
    path.touch()
    return path.name


def test_a_yielded_item_whose_worker_died_is_run_again(tmp_path):
    paths = [tmp_path / name for name in "abc"]
    with compute.client("local", workers=1) as client:
        assert list(compute.stream_ordered(client, die_the_first_time, paths)) == ["a", "b", "c"]


def test_bad_input_of_a_yielded_item_comes_back_in_its_own_words():
    with (
        compute.client("threads", workers=1) as client,
        pytest.raises(InputError, match="another item, found 7"),
    ):
        list(compute.stream_ordered(client, refuse, [7]))
