"""Entries, versions, repeated calls, tokens, and snapshots that are no good."""

import msgspec
import pytest

from core.model.evaluation import Evaluation
from core.model.job import Job, Resources, Task, TaskGroup
from core.model.service import ServiceRegistration
from core.state import job_forms
from core.state.commands import (
    Barrier,
    Bootstrap,
    BootstrapACL,
    Command,
    DeleteToken,
    Entry,
    PutServices,
    PutToken,
    RaiseSchema,
    RecordCall,
    RegisterJob,
    SetSchedulerConfig,
)
from core.state.entry import (
    HANDLERS,
    UnknownCommand,
    decode_entry,
    encode_entry,
    register_handler,
)
from core.state.result import CommandResult
from core.state.snapshot import SnapshotError
from core.state.state import _TABLES, State, register_table

HOUR_US = 3_600_000_000


class Unheard(Command):
    """A command of a future version."""

    text: str = ""


class Claim(msgspec.Struct):
    home: str


class PutClaim(Command):
    name: str
    home: str


def test_every_command_of_the_module_has_a_handler():
    assert {c.__name__ for c in Command.__subclasses__() if c.__module__.startswith("core.")} - {
        "Unheard",
        "PutClaim",
    } <= {known.__name__ for known in HANDLERS}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"\x09" + data[1:], "format 9"),
        (lambda data: data[:1] + b"\x63" + data[2:], "schema 99"),
        (lambda data: data[:7], "can't be read"),
        (lambda data: b"", "damaged"),
        (lambda data: encode_entry(Entry(wall_us=1, commands=[Unheard()])), "'Unheard'"),
    ],
)
def test_what_is_not_understood_stops_the_replica_and_changes_nothing(cluster, change, words):
    before = cluster.state.hash()
    data = change(encode_entry(Entry(wall_us=1, commands=[Barrier()])))
    with pytest.raises(UnknownCommand, match=words):
        cluster.state.apply(100, data)
    assert cluster.state.hash() == before


def test_a_schema_beyond_ours_stops_the_replica(cluster):
    assert cluster.do(RaiseSchema(schema=1)).value == 1
    with pytest.raises(UnknownCommand, match="upgrade"):
        cluster.apply(RaiseSchema(schema=2))


def test_an_entry_is_read_as_written():
    entry = Entry(wall_us=5, commands=[Barrier()], call=RecordCall(call_id="x", issued_us=3))
    assert decode_entry(encode_entry(entry)) == entry


def test_an_index_is_applied_once(cluster):
    with pytest.raises(ValueError, match="comes after"):
        cluster.state.apply(1, cluster.log[0])


def test_log_time_never_goes_back(cluster):
    cluster.apply(Barrier())
    before = cluster.state.log_time_us
    cluster.now_us -= HOUR_US
    cluster.apply(Barrier())
    assert cluster.state.log_time_us == before


def test_an_identity_is_for_ever(cluster):
    again = Bootstrap(datacenter_id="f" * 12, region="us", datacenter="x", is_authority=False)
    assert cluster.refused(again).status == 409
    assert cluster.state.region == "eu"


def test_a_refused_command_does_not_undo_its_neighbours(cluster, kit):
    applied = cluster.apply(
        RegisterJob(job=kit.job("a"), check_index=5), RegisterJob(job=kit.job("b"))
    )
    assert [result.is_error for result in applied.results] == [True, False]
    assert cluster.state.jobs.get("default", "b") is not None


def test_a_repeated_call_gets_the_first_answer_and_does_nothing(cluster, kit):
    call = RecordCall(call_id="c", issued_us=cluster.now_us)
    first = cluster.apply(RegisterJob(job=kit.job("a")), call=call)
    again = cluster.apply(RegisterJob(job=kit.job("a", 9)), call=call)
    assert (again.results, again.is_repeat, again.changes) == (first.results, True, [])
    assert cluster.state.jobs.get("default", "a").version == 0


@pytest.mark.parametrize("hours", [-25, 25])
def test_a_call_out_of_its_time_is_never_carried_out(cluster, kit, hours):
    call = RecordCall(call_id="c", issued_us=cluster.now_us + hours * HOUR_US)
    (result,) = cluster.apply(RegisterJob(job=kit.job("a")), call=call).results
    assert result.status == 409
    assert cluster.state.jobs.get("default", "a") is None


def test_answers_are_kept_as_long_as_a_repetition_may_come(cluster):
    early = cluster.now_us + 20 * HOUR_US  # a caller whose clock is ahead
    for call_id, issued_us in (("ahead", early), ("now", cluster.now_us)):
        cluster.apply(Barrier(), call=RecordCall(call_id=call_id, issued_us=issued_us))
    cluster.now_us = early + 23 * HOUR_US
    late = RecordCall(call_id="ahead", issued_us=early)
    assert cluster.apply(Barrier(), call=late).is_repeat
    cluster.now_us = early + 25 * HOUR_US
    cluster.apply(Barrier(), call=RecordCall(call_id="new", issued_us=cluster.now_us))
    assert list(cluster.state.calls) == ["new"]


def test_access_control_is_bootstrapped_once(cluster):
    token = {"accessor_id": "a", "secret_id": "s", "create_time": "2024-01-01T00:00:00Z"}
    assert cluster.do(BootstrapACL(**token)).value["Type"] == "management"
    assert "already done" in cluster.refused(BootstrapACL(**token)).error
    assert cluster.state.tokens.by_secret("s")["AccessorID"] == "a"


def test_tokens_are_found_by_secret_until_deleted(cluster):
    cluster.do(PutToken(token={"AccessorID": "a", "SecretID": "s", "Type": "client"}))
    other = {"AccessorID": "b", "SecretID": "s"}
    assert "in use" in cluster.refused(PutToken(token=other)).error
    assert cluster.refused(PutToken(token={"AccessorID": "a", "SecretID": "z"})).status == 400
    cluster.do(DeleteToken(accessor_id="a"))
    assert cluster.state.tokens.by_secret("s") is None
    assert cluster.refused(DeleteToken(accessor_id="a")).status == 404


def test_scheduler_config_keeps_its_creation(cluster):
    first = cluster.do(SetSchedulerConfig(config={"SchedulerAlgorithm": "spread"})).value
    cluster.do(SetSchedulerConfig(config={"SchedulerAlgorithm": "binpack"}))
    assert cluster.state.scheduler_config["CreateIndex"] == first
    assert cluster.state.scheduler_config["SchedulerAlgorithm"] == "binpack"


def test_services_are_listed_by_name_and_an_equal_one_changes_nothing(cluster):
    web = ServiceRegistration(id="s1", service_name="web", node_id="n", alloc_id="a")
    cluster.do(PutServices(registrations=[web]))
    before = cluster.state.table_index("services")
    cluster.do(PutServices(registrations=[web]))
    assert cluster.state.table_index("services") == before
    renamed = msgspec.structs.replace(web, service_name="api")
    cluster.do(PutServices(registrations=[renamed]))
    assert cluster.state.services.names() == [("default", "api")]
    assert [s.id for s in cluster.state.services.of_alloc("a")] == ["s1"]
    cluster.do(PutServices(removed=["s1", "unknown"]))
    assert cluster.state.services.names() == []


def test_a_floor_above_can_add_commands_and_tables():
    def put_claim(state, command, context):
        state.table("claims_of_test").put(command.name, Claim(home=command.home))
        context.changed("claims_of_test", "ClaimPut", command.name)
        return CommandResult()

    register_table("claims_of_test", Claim)
    register_handler(PutClaim, put_claim)
    try:
        state = State()
        before = state.hash()
        state.apply(1, encode_entry(Entry(wall_us=1, commands=[PutClaim(name="web", home="a")])))
        assert state.hash() != before
        twin = State.restore(state.image().chunks())
        assert twin.table("claims_of_test").get("web") == Claim(home="a")
        assert (twin.hash(), twin.table_index("claims_of_test")) == (state.hash(), 1)
        data = list(state.image().chunks())
    finally:
        del HANDLERS[PutClaim], _TABLES["claims_of_test"]
        register_handler(Barrier, HANDLERS[Barrier])  # the decoder forgets PutClaim
    with pytest.raises(SnapshotError, match="section 'claims_of_test'"):
        State.restore(data)


def test_two_commands_of_one_name_are_refused():
    other = type("Barrier", (Command,), {})
    with pytest.raises(ValueError, match="registered already"):
        register_handler(other, HANDLERS[Barrier])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: b"", "cut short"),
        (lambda data: b"PK" + data[2:], "no Serai snapshot"),
        (lambda data: data[:8] + b"\x07" + data[9:], "format 7"),
        (lambda data: data[:9] + b"\x63" + data[10:], "schema 99"),
        (lambda data: data[:-9], "cut short"),
        (lambda data: data + b"x", "cut short"),
        (lambda data: data + data[10:], "damaged"),
        (lambda data: data.replace(b"name-of-n0", b"name-of-n9"), "damaged at byte"),
    ],
)
def test_a_bad_snapshot_is_refused_with_the_reason(cluster, change, words):
    cluster.node("n0")
    data = b"".join(cluster.state.image().chunks())
    with pytest.raises(SnapshotError, match=words):
        State.restore([change(data)])


def test_any_flipped_byte_of_a_snapshot_is_noticed(cluster):
    cluster.node("n0")
    data = b"".join(cluster.state.image().chunks())
    for at in range(0, len(data), 5):
        with pytest.raises(SnapshotError):
            State.restore([data[:at], bytes([data[at] ^ 0x10]), data[at + 1 :]])


def test_a_missing_frame_of_a_snapshot_is_noticed(cluster):
    cluster.node("n0")
    data = b"".join(cluster.state.image().chunks())
    at = 10 + 8 + int.from_bytes(data[10:14], "little")  # behind the first frame
    end = at + 8 + int.from_bytes(data[at : at + 4], "little")
    with pytest.raises(SnapshotError, match="digest"):
        State.restore([data[:at] + data[end:]])


def _registration(name: str, cpu: int = 100, **more: object) -> RegisterJob:
    task = Task(name="t", driver="exec", resources=Resources(cpu=cpu))
    job = Job(id=name, name=name, type="batch", task_groups=[TaskGroup(name="g", tasks=[task])])
    return RegisterJob(job=job, **more)  # type: ignore[arg-type]


def test_jobs_of_one_form_share_what_is_not_their_own():
    """Read or looked up, a registration is the same record; 100,000 jobs hold their groups once."""
    given = [
        _registration("one", evaluation=Evaluation(id="e", job_id="one")),
        _registration("two", indices={"g": [(0, 3)]}, check_index=7),
        _registration("three", cpu=200, submission={"Source": "x"}),
        RegisterJob(job=Job(name="nameless", uid="u", submit_time_ns=5)),
    ]
    entry = Entry(wall_us=1, commands=given)
    for _ in range(2):
        read = decode_entry(encode_entry(entry)).commands
        assert read == given
        assert [command.job for command in read] == [command.job for command in given]
        assert encode_entry(Entry(wall_us=1, commands=read)) == encode_entry(entry)
        assert read[0].job.task_groups is read[1].job.task_groups
        assert read[0].job.task_groups is not read[2].job.task_groups


def test_forms_are_forgotten_when_there_are_many(monkeypatch):
    monkeypatch.setattr(job_forms, "_KEPT", 4)
    monkeypatch.setattr(job_forms, "_forms", {})
    for cpu in range(20):
        decode_entry(encode_entry(Entry(wall_us=1, commands=[_registration("a", cpu=cpu)])))
    assert len(job_forms._forms) == 4


def test_a_registration_that_is_none_is_refused_with_its_name():
    data = encode_entry(Entry(wall_us=1, commands=[_registration("one")]))
    said = msgspec.msgpack.decode(data[2:])
    said["commands"][0]["job"]["TaskGroups"] = "a text where a list belongs"
    with pytest.raises(UnknownCommand, match="'RegisterJob' in the log can't be read"):
        decode_entry(data[:2] + msgspec.msgpack.encode(said))
