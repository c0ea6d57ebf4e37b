"""Merging as a strategic merge patch of a PodTemplateSpec does."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from unit.operator.builders import table

from computepool_operator.merge import strategic_merge

Body = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """This, merged over that, gives what is wanted."""

    below: Body
    over: Body
    want: Body


A, B, C = ({"name": name, "image": name} for name in "abc")

RULES = {
    "nothing over something changes nothing": Case({"a": 1}, {}, {"a": 1}),
    "something over nothing is taken": Case({}, {"a": {"b": 1}}, {"a": {"b": 1}}),
    "a value replaces the one below": Case({"a": 1}, {"a": 2}, {"a": 2}),
    "mappings merge field by field": Case(
        {"a": {"b": 1, "c": 2}}, {"a": {"c": 3, "d": 4}}, {"a": {"b": 1, "c": 3, "d": 4}}
    ),
    "null removes": Case({"a": 1, "b": 2}, {"a": None}, {"b": 2}),
    "null of what is not there does nothing": Case({"b": 2}, {"a": None}, {"b": 2}),
    "null within a mapping removes": Case(
        {"a": {"b": 1, "c": 2}}, {"a": {"b": None}}, {"a": {"c": 2}}
    ),
    "a mapping replaces a value": Case({"a": 1}, {"a": {"b": 2}}, {"a": {"b": 2}}),
    "a value replaces a mapping": Case({"a": {"b": 2}}, {"a": 1}, {"a": 1}),
    "false and zero are values": Case(
        {"a": True, "b": 1}, {"a": False, "b": 0}, {"a": False, "b": 0}
    ),
    "containers merge by name": Case(
        {"containers": [A, B]},
        {"containers": [{"name": "b", "command": ["x"]}]},
        {"containers": [A, {**B, "command": ["x"]}]},
    ),
    "a container of a new name is added at the end": Case(
        {"containers": [A]},
        {"containers": [C, {"name": "a", "tty": True}]},
        {"containers": [{**A, "tty": True}, C]},
    ),
    "mounts merge by path": Case(
        {"volumeMounts": [{"mountPath": "/tmp", "name": "tmp"}]},
        {"volumeMounts": [{"mountPath": "/tmp", "name": "mine"}, {"mountPath": "/x", "name": "x"}]},
        {"volumeMounts": [{"mountPath": "/tmp", "name": "mine"}, {"mountPath": "/x", "name": "x"}]},
    ),
    "a variable replaces its like as a whole, since it has one value or one source": Case(
        {"env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]},
        {"env": [{"name": "A", "value": "1"}]},
        {"env": [{"name": "A", "value": "1"}]},
    ),
    "a volume replaces its like as a whole, since it has one source": Case(
        {"volumes": [{"name": "scratch", "emptyDir": {}}]},
        {"volumes": [{"name": "scratch", "hostPath": {"path": "/fast"}}]},
        {"volumes": [{"name": "scratch", "hostPath": {"path": "/fast"}}]},
    ),
    "pull secrets merge by name": Case(
        {"imagePullSecrets": [{"name": "a"}]},
        {"imagePullSecrets": [{"name": "b"}, {"name": "a"}]},
        {"imagePullSecrets": [{"name": "a"}, {"name": "b"}]},
    ),
    "tolerations have no key and are replaced": Case(
        {"tolerations": [{"key": "a"}]},
        {"tolerations": [{"key": "b"}]},
        {"tolerations": [{"key": "b"}]},
    ),
    "commands are replaced": Case({"command": ["a", "b"]}, {"command": ["c"]}, {"command": ["c"]}),
    "an empty list of a keyed kind changes nothing": Case(
        {"containers": [A]}, {"containers": []}, {"containers": [A]}
    ),
}


@table(RULES)
def test_merging(case: Case) -> None:
    below, over = deepcopy(case.below), deepcopy(case.over)
    merged = strategic_merge(below, over)
    assert merged == case.want
    assert (below, over) == (case.below, case.over)


def test_over_itself_nothing_changes() -> None:
    template = {"spec": {"containers": [A, B], "tolerations": [{"key": "a"}], "x": {"y": 1}}}
    assert strategic_merge(template, template) == template
