"""What the model server makes of requests, arrays and golden files, without a process."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from interlock.edges.blobs import LocalBlobs
from interlock.inference.formats.estimators import Estimator
from interlock.inference.formats.loading import find_model_file
from interlock.inference.formats.plain_class import PlainModel
from interlock.inference.golden import GoldenWrong, check_golden
from interlock.inference.inputs import Column, InvalidRequest, Signature
from interlock.inference.model import DigestDiffers, Unloadable, copy_checked
from interlock.inference.protocol.tensors import FLOATS, INTEGERS, WRONG_NUMBERS, describe, from_numbers


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data)], "data": data}


def read(*entries: dict[str, Any], signature: Signature | None = None) -> dict[str, Any]:
    return (signature or Signature()).read({"inputs": list(entries)}).arrays


class Sum:
    """A model of plain Python: adds up the columns of a table or an array."""

    def predict(self, table: Any) -> Any:
        return np.asarray(table, dtype=float).sum(axis=1)


class Witness:
    """Keeps what it was called with."""

    def __init__(self, names: list[str] | None = None, width: int | None = None) -> None:
        if names:
            self.feature_names_in_ = np.array(names, dtype=object)
        if width:
            self.n_features_in_ = width

    def predict(self, given: Any) -> Any:
        self.given = given
        return np.zeros(len(given))


class TestDatatypes:
    @pytest.mark.parametrize(
        ("datatype", "data", "dtype", "expected"),
        [
            ("BOOL", [True, False], "bool", [True, False]),
            ("UINT8", [0, 255], "uint8", [0, 255]),
            ("INT16", [-32768, 32767], "int16", [-32768, 32767]),
            ("UINT64", [2**64 - 1], "uint64", [2**64 - 1]),
            ("INT64", [-(2**63)], "int64", [-(2**63)]),
            ("INT64", [20.0, -3, -0.0], "int64", [20, -3, 0]),
            ("FP32", [0.5, 1], "float32", [0.5, 1.0]),
            ("FP64", [1e300, 2], "float64", [1e300, 2.0]),
            ("BYTES", ["a", "ü"], "object", ["a", "ü"]),
            ("BOOL", [True, None], "object", [True, None]),
            ("BYTES", ["a", None], "object", ["a", None]),
        ],
    )
    def test_are_read_as_they_are(self, datatype: str, data: list[Any], dtype: str, expected: list[Any]) -> None:
        array = read(tensor("x", datatype, data))["x"]
        assert array.dtype == dtype
        assert array.tolist() == expected

    @pytest.mark.parametrize("datatype", ["INT8", "UINT32", "FP32", "FP64"])
    def test_a_missing_number_is_nan(self, datatype: str) -> None:
        array = read(tensor("x", datatype, [1, None]))["x"]
        assert array[0] == 1
        assert math.isnan(array[1])

    @pytest.mark.parametrize(
        ("datatype", "value"),
        [
            ("UINT8", 256), ("UINT8", -1), ("INT8", 128), ("INT64", 2**63), ("UINT64", 2**64), ("INT32", 1.5),
            ("INT64", 2.0**60), ("INT8", 128.0),
            ("INT32", "1"), ("INT32", True), ("FP32", 1e39), ("FP64", "1"), ("FP64", True), ("BOOL", 1), ("BOOL", "t"),
            ("BYTES", 1), ("BYTES", ["a"]), ("FP64", {}), ("FP64", [1.0]),
        ],
    )  # fmt: skip
    def test_other_values_are_refused(self, datatype: str, value: Any) -> None:
        with pytest.raises(InvalidRequest, match="'x'"):
            read(tensor("x", datatype, [value]))

    @pytest.mark.parametrize("datatype", [*INTEGERS, *FLOATS])
    def test_numbers_are_packed_as_they_are_and_none_becomes_another(self, datatype: str) -> None:
        dtype = np.dtype(datatype.lower().replace("fp", "float"))
        limits = np.iinfo(dtype) if datatype in INTEGERS else np.finfo(dtype)
        most = [limits.max if datatype in INTEGERS else limits.max.item(), 0]
        packed = from_numbers(most, datatype)
        assert (packed.dtype, packed.tolist()) == (dtype, most)
        assert packed.flags.writeable  # as every array that a model is given
        for wrong in ["1", None, *([2 * most[0]] if datatype != "FP64" else []), *([1.5] * (datatype in INTEGERS))]:
            with pytest.raises(WRONG_NUMBERS):
                from_numbers([wrong], datatype)

    @pytest.mark.parametrize(
        ("dtype", "name"),
        [("bool", "BOOL"), ("int32", "INT32"), ("uint8", "UINT8"), ("float32", "FP32"), ("float64", "FP64"),
         ("object", "BYTES"), ("str", "BYTES")],
    )  # fmt: skip
    def test_outputs_are_described(self, dtype: str, name: str) -> None:
        assert describe(np.zeros(1, dtype=dtype)) == name


SHAPES = st.lists(st.integers(1, 4), min_size=1, max_size=4)


class TestShapes:
    @given(shape=SHAPES, data=st.data())
    def test_nested_and_flat_data_mean_the_same(self, shape: list[int], data: st.DataObject) -> None:
        size = math.prod(shape)
        values = data.draw(st.lists(st.integers(-9, 9), min_size=size, max_size=size))
        nested: list[Any] = values
        for length in reversed(shape[1:]):
            nested = [nested[start : start + length] for start in range(0, len(nested), length)]
        flat = read(tensor("x", "INT64", values, shape))["x"]
        assert list(flat.shape) == shape
        assert flat.tolist() == nested
        assert read(tensor("x", "INT64", nested, shape))["x"].tolist() == nested

    @given(shape=SHAPES, length=st.integers(0, 300))
    def test_another_number_of_values_is_refused(self, shape: list[int], length: int) -> None:
        if length == math.prod(shape):
            length += 1
        with pytest.raises(InvalidRequest):
            read(tensor("x", "INT64", [1] * length, shape))


class TestSignature:
    SIGNATURE = Signature([Column("a", "FP64"), Column("b", "INT8"), Column("c", "BYTES")])

    def test_arrays_come_in_its_order_and_datatypes(self) -> None:
        arrays = read(
            tensor("c", "BYTES", ["x"]),
            tensor("b", "INT64", [1]),
            tensor("a", "INT8", [1]),
            tensor("d", "FP32", [1]),
            signature=self.SIGNATURE,
        )
        assert [(name, str(array.dtype)) for name, array in arrays.items()] == [
            ("a", "float64"),
            ("b", "int8"),
            ("c", "object"),
        ]

    @pytest.mark.parametrize(
        ("name", "entry", "reason"),
        [
            ("b", tensor("b", "INT64", [300]), "outside of INT8"),
            ("b", tensor("b", "FP32", [1.0]), "datatype FP32, expected INT8"),
            ("c", tensor("c", "INT8", [1]), "datatype INT8, expected BYTES"),
            ("a", tensor("a", "BOOL", [True]), "datatype BOOL, expected FP64"),
            ("a", tensor("a", "FP64", [1.0, 2.0], [1, 2]), "shape"),
        ],
    )
    def test_what_does_not_fit_is_named(self, name: str, entry: dict[str, Any], reason: str) -> None:
        right = {"a": tensor("a", "FP64", [1]), "b": tensor("b", "INT8", [1]), "c": tensor("c", "BYTES", ["x"])}
        with pytest.raises(InvalidRequest, match=reason) as refused:
            read(*{**right, name: entry}.values(), signature=self.SIGNATURE)
        assert repr(name) in str(refused.value)

    NUMBERS = Signature([Column("a", "FP32", (2,)), Column("b", "INT8")])

    @given(
        wide=st.lists(st.sampled_from([0, 1.5, -1e30, 3e38, 1e39, -1e39, None]), min_size=3, max_size=5),
        narrow=st.lists(st.sampled_from([0, -128, 127, 128, 1.0, "1"]), min_size=1, max_size=3),
        is_binary=st.booleans(),
        change=st.sampled_from([{}, {"shape": [2, 1]}, {"name": "c"}, {"datatype": "INT16"}, {"parameters": {}}]),
        tail=st.sampled_from([b"", b"x"]),
    )
    def test_the_quick_way_of_most_requests_finds_what_the_careful_one_does(
        self, wide: list[Any], narrow: list[Any], is_binary: bool, change: dict[str, Any], tail: bytes
    ) -> None:
        entries = [tensor("a", "FP32", wide, [len(wide) // 2, 2]), {**tensor("b", "INT8", narrow), **change}]
        if is_binary:
            del entries[0]["data"]
            tail = np.array([value or 0 for value in wide[:4]], np.float64).clip(-1, 1).astype("<f4").tobytes() + tail
            entries[0]["parameters"] = {"binary_data_size": len(tail)}

        def found(*, may_hold_booleans: bool) -> object:
            content = {"inputs": entries}
            try:
                read = self.NUMBERS.read(content, memoryview(tail), may_hold_booleans=may_hold_booleans)
            except InvalidRequest:
                return "refused"
            return [(name, array.dtype, array.shape, repr(array.tolist())) for name, array in read.arrays.items()]

        assert found(may_hold_booleans=False) == found(may_hold_booleans=True)

    def test_golden_requests_share_the_wider_number(self) -> None:
        requests = [{"inputs": [tensor("a", kind, [1])]} for kind in ("INT64", "INT32", "FP64")]
        assert Signature.from_golden(requests[:2]).columns["a"].datatype == "INT64"
        assert Signature.from_golden(requests).columns["a"].datatype == "FP64"

    def test_golden_requests_that_disagree_are_refused(self) -> None:
        requests = [{"inputs": [tensor("a", kind, data)]} for kind, data in (("INT64", [1]), ("BYTES", ["x"]))]
        with pytest.raises(InvalidRequest, match="disagree"):
            Signature.from_golden(requests)


class TestWhatTheModelGets:
    def ask(self, model: Witness, *entries: dict[str, Any]) -> Any:
        Estimator(model).answer(Signature().read({"inputs": list(entries)}))
        return model.given

    def test_several_inputs_are_a_table(self) -> None:
        given = self.ask(Witness(), tensor("a", "INT32", [1, 2]), tensor("b", "BYTES", ["x", None]))
        assert isinstance(given, pd.DataFrame)
        assert list(given.columns) == ["a", "b"]
        assert given["a"].dtype == "int32"
        assert given["b"].isna().tolist() == [False, True]

    def test_the_columns_of_the_training_in_their_order(self) -> None:
        entries = [tensor(name, "FP64", [1.0]) for name in ("c", "b", "a")]
        assert list(self.ask(Witness(names=["a", "b"]), *entries).columns) == ["a", "b"]

    def test_a_missing_column_is_named(self) -> None:
        with pytest.raises(InvalidRequest, match="missing inputs: 'z'"):
            self.ask(Witness(names=["a", "z"]), tensor("a", "FP64", [1.0]), tensor("b", "FP64", [1.0]))

    def test_one_column_by_its_name_is_a_table(self) -> None:
        given = self.ask(Witness(names=["a"], width=1), tensor("a", "FP64", [1.0, 2.0]))
        assert isinstance(given, pd.DataFrame)

    def test_one_input_is_an_array(self) -> None:
        assert self.ask(Witness(width=2), tensor("a", "FP64", [1, 2, 3, 4], [2, 2])).shape == (2, 2)
        assert self.ask(Witness(width=1), tensor("a", "FP64", [1, 2])).shape == (2, 1)
        assert self.ask(Witness(), tensor("a", "FP64", [0] * 8, [2, 2, 2])).shape == (2, 2, 2)
        assert self.ask(Witness(), tensor("a", "BYTES", ["x", "y"])).shape == (2,)

    def test_another_width_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="the model takes 3"):
            self.ask(Witness(width=3), tensor("a", "FP64", [1, 2], [1, 2]))

    def test_a_wide_column_is_refused(self) -> None:
        with pytest.raises(InvalidRequest, match="'b'"):
            self.ask(Witness(), tensor("a", "FP64", [1]), tensor("b", "FP64", [1, 2], [1, 2]))

    def test_an_answer_of_another_length_is_an_error_of_the_model(self) -> None:
        class Short:
            def predict(self, table: Any) -> Any:
                return [1.0]

        with pytest.raises(ValueError, match="for 2 rows") as raised:
            Estimator(Short()).answer(Signature().read({"inputs": [tensor("a", "FP64", [1, 2])]}))
        assert not isinstance(raised.value, InvalidRequest)


def asked(*values: float) -> dict[str, Any]:
    return {"inputs": [tensor("a", "FP64", [value]) for value in values[:1]] + [tensor("b", "FP64", [values[1]])]}


def answered(*values: Any) -> dict[str, Any]:
    return {"outputs": [{"name": "prediction", "data": list(values)}]}


class Reuser:
    """Changes in place what it is given, and answers with the same array each time."""

    answered = np.zeros(2)

    def preprocess(self, inputs: Any) -> Any:
        inputs["x"] *= 0.0
        return inputs

    def predict(self, inputs: Any) -> Any:
        self.answered += 1.0 + inputs["x"]
        return self.answered


def test_what_a_class_does_with_its_arrays_changes_nothing_for_others() -> None:
    model = PlainModel(Reuser())
    batch = Signature().read({"inputs": [tensor("x", "FP64", [5.0, 6.0])]})
    answers = [model.answer(batch)["prediction"] for _ in range(2)]
    assert batch.arrays["x"].tolist() == [5.0, 6.0]
    assert [answer.tolist() for answer in answers] == [[1.0, 1.0], [2.0, 2.0]]


class TestGolden:
    def check(self, folder: Path, document: Any) -> Any:
        path = folder / "golden.json"
        path.write_text(document if isinstance(document, str) else json.dumps(document))
        return check_golden(Estimator(Sum()), path)

    def test_what_is_answered_as_expected_passes(self, tmp_path: Path) -> None:
        document = {"requests": [asked(1, 2), asked(1000, 2)], "responses": [answered(3), answered(1002.0005)]}
        signature, outputs, checked = self.check(tmp_path, document)
        assert list(signature.columns) == ["a", "b"]
        assert outputs["prediction"].tolist() == [3.0]
        assert len(checked) == 2

    def test_an_input_with_a_default_may_be_left_out(self, tmp_path: Path) -> None:
        left_out = {"inputs": [tensor("a", "FP64", [1, 2])]}
        document = {"requests": [asked(1, 2), left_out], "responses": [answered(3), answered(11, 12)]}
        signature, _, _ = self.check(tmp_path, document | {"defaults": {"b": 10}})
        assert list(signature.read(left_out).arrays) == ["a", "b"]
        assert signature.read(left_out).arrays["b"].tolist() == [10.0, 10.0]
        assert signature.read(asked(1, 2)).arrays["b"].tolist() == [2.0]
        with pytest.raises(InvalidRequest, match="missing inputs: 'a'"):
            signature.read({"inputs": [tensor("b", "FP64", [1])]})
        with pytest.raises(InvalidRequest, match="missing inputs: 'a'"):
            signature.read({"inputs": [tensor("c", "FP64", [1])]})

    @pytest.mark.parametrize(
        ("column", "value", "expected"),
        [
            (Column("x", "FP64"), None, "[nan, nan]"),
            (Column("x", "INT64"), 7, "[7, 7]"),
            (Column("x", "INT64"), None, "[nan, nan]"),
            (Column("x", "BYTES"), "AA", "['AA', 'AA']"),
            (Column("x", "BYTES"), None, "[None, None]"),
            (Column("x", "BOOL"), False, "[False, False]"),
            (Column("x", "FP32", (2,)), 0.5, "[[0.5, 0.5], [0.5, 0.5]]"),
        ],
    )
    def test_what_stands_for_an_input_that_is_left_out(self, column: Column, value: object, expected: str) -> None:
        signature = Signature([Column("a", "FP64"), column], {"x": value})
        assert repr(signature.read({"inputs": [tensor("a", "FP64", [1, 2])]}).arrays["x"].tolist()) == expected

    def test_no_file_is_no_knowledge(self) -> None:
        signature, outputs, checked = check_golden(Estimator(Sum()), None)
        assert (signature.columns, outputs, checked) == ({}, {}, [])

    @pytest.mark.parametrize(
        ("document", "reason"),
        [
            ("no JSON", "cannot be read"),
            ([], "at least one request"),
            ({"requests": []}, "at least one request"),
            ({"requests": [{"inputs": []}]}, "at least one tensor"),
            ({"requests": [asked(1, 2), {"inputs": [tensor("a", "FP64", [1])]}]}, "other inputs: 'b'"),
            ({"requests": [{"inputs": [tensor("a", "BYTES", ["x"]), tensor("b", "FP64", [1])]}]}, "0 is not answered"),
            ({"requests": [asked(1, 2)], "responses": [answered(3), answered(3)]}, "as long as"),
            ({"requests": [asked(1, 2)], "responses": [{}]}, 'no "outputs"'),
            ({"requests": [asked(1, 2)], "defaults": [0]}, '"defaults" must be an object'),
            ({"requests": [asked(1, 2)], "defaults": {"c": 0}}, "a default for 'c', which no golden request brings"),
            ({"requests": [asked(1, 2)], "defaults": {"b": "x"}}, "the default of input 'b'"),
            (
                {"requests": [asked(1, 2), {"inputs": [tensor("b", "FP64", [1])]}], "defaults": {"b": 0}},
                "golden request 1 has other inputs: 'a'",
            ),
            (
                {"requests": [asked(1, 2)], "responses": [answered(3.00001)]},
                r"prediction\[0\] is 3.0, expected 3.00001",
            ),
            ({"requests": [asked(1, 2)], "responses": [answered(3, 3)]}, "1 values, expected 2"),
            ({"requests": [asked(1, 2)], "responses": [answered("3")]}, "expected '3'"),
            ({"requests": [asked(1, 2)], "responses": [answered(None)]}, "expected None"),
            (
                {"requests": [asked(1, 2)], "responses": [{"outputs": [{"name": "probability", "data": [1]}]}]},
                "no output 'probability'",
            ),
        ],
    )
    def test_anything_else_is_named(self, tmp_path: Path, document: Any, reason: str) -> None:
        with pytest.raises(GoldenWrong, match=reason):
            self.check(tmp_path, document)


class TestDigest:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "empty").mkdir()
        (folder / "model.skops").write_bytes(bytes(range(256)) * 9000)
        (folder / "deep" / "er" / "ü.py").write_text("x = 1")
        (folder / "deep.txt").write_text("")
        (folder / "link.txt").symlink_to("deep.txt")
        (folder / "run.sh").write_text("true")
        (folder / "run.sh").chmod(0o755)
        return folder

    def test_is_that_of_the_artifact_store(self, folder: Path, tmp_path: Path) -> None:
        blobs = LocalBlobs(tmp_path / "blobs")
        for path in (folder, folder / "model.skops", folder / "deep"):
            digest = blobs.put(str(path))
            with copy_checked(path, digest) as copy:
                assert copy.name == path.name
                assert blobs.put(str(copy)) == digest

    def test_the_copy_is_private_and_goes(self, folder: Path, tmp_path: Path) -> None:
        digest = LocalBlobs(tmp_path / "blobs").put(str(folder))
        with copy_checked(folder, digest) as copy:
            assert copy.parent.stat().st_mode & 0o077 == 0
            (folder / "deep.txt").write_text("changed since")
            assert (copy / "deep.txt").read_text() == ""
            assert (copy / "deep" / "er" / "ü.py").read_text() == "x = 1"
        assert not copy.exists()

    @pytest.mark.parametrize("change", ["content", "name", "more", "less", "bit"])
    def test_any_change_is_seen(self, folder: Path, tmp_path: Path, change: str) -> None:
        digest = LocalBlobs(tmp_path / "blobs").put(str(folder))
        file = folder / "deep.txt"
        if change == "content":
            file.write_text(" ")
        elif change == "name":
            file.rename(folder / "other.txt")
            (folder / "link.txt").unlink()
            (folder / "link.txt").symlink_to("other.txt")
        elif change == "more":
            (folder / "deep" / "new").touch()
        elif change == "less":
            (folder / "run.sh").unlink()
        else:
            file.chmod(0o755)
        with pytest.raises(DigestDiffers, match="not the admitted"), copy_checked(folder, digest):
            pass


class TestModelFile:
    def test_the_one_file_or_the_one_called_model(self, tmp_path: Path) -> None:
        (tmp_path / "b.joblib").touch()
        (tmp_path / "b.skops").touch()
        assert find_model_file(tmp_path, "joblib").name == "b.joblib"
        (tmp_path / "a.pkl").touch()
        with pytest.raises(Unloadable, match=r"a\.pkl, b\.joblib"):
            find_model_file(tmp_path, "joblib")
        (tmp_path / "model.pkl").touch()
        assert find_model_file(tmp_path, "joblib").name == "model.pkl"

    def test_a_file_is_itself(self, tmp_path: Path) -> None:
        (tmp_path / "anything").touch()
        assert find_model_file(tmp_path / "anything", "skops").name == "anything"
