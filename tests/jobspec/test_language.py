"""Sets, types, sensitive values, strictness and randomness; and random expressions against a
slow reference that computes each with fractions."""

import base64
import operator
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobspec import JobFileError, parse_body, parse_job


def value_of(expression: str, **variables: Any) -> Any:
    return parse_body(f"x = {expression}\n", "x.hcl", variables=variables).attributes["x"].value


def meta_of(declarations: str, expression: str, **given: Any) -> str:
    text = f'{declarations}\njob "j" {{\n meta = {{ x = {expression} }}\n}}'
    parsed = parse_job(text, filename="f.hcl", **given)
    return (parsed.job.meta or {})["x"]


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('{ for k, v in setunion(["b"], ["a"]) : k => v }', {"a": "a", "b": "b"}),
        ('length(setintersection(["a", "b", "b"], ["b"]))', 1),
        ("1e30", 10**30),
        ("12345678901234567890 + 1", 12345678901234567891),
        ("1e10", 10_000_000_000),
        ('true ? 1 : "b"', "1"),
        ("[{ a = [7, 8] }, { a = [9, 0] }].*.a[0]", [7, 8]),
        ("[{ a = [7, 8] }, { a = [9, 0] }][*].a[0]", [7, 9]),
        ('replace("/a/b/", "/a/", "/c/")', "/c/b/"),
        ('regex_replace("baac", "a*", "x")', "xbxcx"),
        ('regexall("[a-z]+", "ab 1 c")', ["ab", "c"]),
        ('regex("(?P<n>[0-9]+)", "v12")', {"n": "12"}),
        ('format("%[2]s %[1]v", 1, "a")', "a 1"),
        ('format("%#v %5.1f|%-4d|%+d", ["a"], 2.25, 7, 7)', '["a"]   2.2|7   |+7'),
        ('parseint("Zz", 62)', 61 * 62 + 35),
        ('yamldecode("a: [1, yes, 1.5, null]\\nb: x")', {"a": [1, "yes", 1.5, None], "b": "x"}),
        ('yamlencode({ a = [{ b = "c", d = [] }], e = "x\\ny\\n" })',
         '"a":\n- "b": "c"\n  "d": []\n"e": |\n  x\n  y\n'),
        ('jsondecode("{\\"a\\": 12345678901234567890}").a', 12345678901234567890),
        ('csvdecode("a,b\\n\\"x\\ny\\",2\\n")', [{"a": "x\ny", "b": "2"}]),
    ],
)  # fmt: skip
def test_an_expression_has_hcls_value(expression: str, value: Any) -> None:
    assert value_of(expression) == value


def test_what_yamlencode_writes_yamldecode_reads() -> None:
    value = '{ a = [1, true, null, "yes", "1", "", [], {}], "b c" = { d = " x\\ny" }, e = "é\\t" }'
    assert value_of(f"yamldecode(yamlencode({value}))") == value_of(value)


@pytest.mark.parametrize(
    ("declaration", "options", "value"),
    [
        ('variable "v" { default = [1] }', {"v": "[2, 3]"}, "2"),
        ('variable "v" {\n type = list(number)\n default = [1]\n}', {"v": '["7"]'}, "7"),
    ],
)
def test_an_option_is_read_as_its_variable_needs_it(
    declaration: str, options: dict[str, str], value: str
) -> None:
    assert meta_of(declaration, "var.v[0]", variables=options) == value


def test_sources_of_a_variable_in_their_order() -> None:
    declared = 'variable "v" { default = "default" }'
    env = {"NOMAD_VAR_v": "env"}
    files = [("a.vars", 'v = "first file"'), ("b.vars", 'v = "file"')]
    assert meta_of(declared, "var.v") == "default"
    assert meta_of(declared, "var.v", env=env) == "env"
    assert meta_of(declared, "var.v", env=env, var_files=files) == "file"
    assert meta_of(declared, "var.v", env=env, var_files=files, variables={"v": "x"}) == "x"


def test_an_unknown_variable_is_an_error_only_when_strict() -> None:
    with pytest.raises(JobFileError, match="no such variable"):
        meta_of("", "1", variables={"nope": "1"})
    text = 'job "j" {}'
    parsed = parse_job(text, filename="f", var_files=[("v", "nope = 1")], is_strict=False)
    assert 'no variable "nope"' in parsed.warnings[0].summary()


@pytest.mark.parametrize(
    ("type_", "use"),
    [("string", "var.v + 1"), ("string", "upper(1, var.v)"), ("list(string)", "var.v[0] * 2")],
)
def test_a_sensitive_value_never_stands_in_a_message(type_: str, use: str) -> None:
    value = '["hunter2"]' if "list" in type_ else "hunter2"
    declared = f'variable "v" {{\n type = {type_}\n sensitive = true\n}}'
    with pytest.raises(JobFileError) as caught:
        meta_of(declared, use, variables={"v": value})
    assert "hunter2" not in str(caught.value)


def test_a_sensitive_value_of_a_wrong_type_is_not_shown() -> None:
    declared = 'variable "v" {\n type = number\n sensitive = true\n}'
    for given_ in ({"variables": {"v": "hunter2"}}, {"var_files": [("f", 'v = "hunter2"')]}):
        with pytest.raises(JobFileError, match="is not a number") as caught:
            meta_of(declared, "var.v", **given_)  # type: ignore[arg-type]
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('job "a" {\n meta { a = "${HOME:-x}" }\n}', "written with two dollars"),
        ('job "a" {\n priority = "256MB"\n}', "write the number alone"),
        ('resource "a" "b" {}', "a file of Terraform"),
    ],
)
def test_a_mistake_from_elsewhere_is_recognized(text: str, message: str) -> None:
    with pytest.raises(JobFileError, match=message):
        parse_job(text, filename="f.hcl")


def test_a_word_without_quotes_is_a_warning() -> None:
    (warning,) = parse_job('job "a" {\n type = service\n}', filename="f.hcl").warnings
    assert (warning.line, warning.hint) == (2, 'a text takes quotes: "service"')


def test_a_local_that_nobody_uses_is_checked_too() -> None:
    with pytest.raises(JobFileError, match="division by zero"):
        meta_of("locals {\n unused = 1 / 0\n}", "1")


def test_random_functions_need_randomness() -> None:
    with pytest.raises(JobFileError, match="nothing random is made here"):
        meta_of("", "uuidv4()")
    assert meta_of("", "uuidv4()", entropy=bytes) == "00000000-0000-4000-8000-000000000000"
    hashed = meta_of("", 'bcrypt("secret", 4)', entropy=bytes)
    import bcrypt

    assert bcrypt.checkpw(b"secret", hashed.encode()) and hashed.startswith("$2a$04$")


def test_rsadecrypt_opens_what_the_public_key_closed() -> None:
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = generate_private_key(65537, 1024)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
    sealed = base64.b64encode(key.public_key().encrypt(b"open", PKCS1v15())).decode()
    assert value_of(
        f"rsadecrypt({sealed!r}, var.k)".replace("'", '"'), var={"k": pem.decode()}
    ) == ("open")


# --- random expressions against a slow reference ---------------------------------------------

_NUMBERS = st.integers(0, 50).map(lambda n: (str(n), Fraction(n)))
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
_COMPARE = {"<": operator.lt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne}


def _number_or_more(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    pair = st.tuples(inner, inner)
    return st.one_of(
        st.tuples(st.sampled_from(sorted(_ARITHMETIC)), pair).map(
            lambda t: (f"({t[1][0][0]} {t[0]} {t[1][1][0]})",
                       _ARITHMETIC[t[0]](t[1][0][1], t[1][1][1]))
        ),
        inner.map(lambda v: (f"-{v[0]}" if v[0][0] != "-" else f"-({v[0]})", -v[1])),
        st.tuples(st.sampled_from(sorted(_COMPARE)), pair, pair).map(
            lambda t: (
                f"({t[1][0][0]} {t[0]} {t[1][1][0]} ? {t[2][0][0]} : {t[2][1][0]})",
                t[2][0][1] if _COMPARE[t[0]](t[1][0][1], t[1][1][1]) else t[2][1][1],
            )
        ),
        st.lists(inner, min_size=1, max_size=4).map(
            lambda vs: (f"max({', '.join(v[0] for v in vs)})", max(v[1] for v in vs))
        ),
        st.lists(inner, min_size=1, max_size=4).map(
            lambda vs: (f"length([for i in [{', '.join(v[0] for v in vs)}] : i if i > 3])",
                        Fraction(sum(v[1] > 3 for v in vs)))
        ),
        st.tuples(inner, inner).map(
            lambda t: (f"[{t[0][0]}, {t[1][0]}][{'1' if t[0][1] > 0 else '0'}]",
                       t[1][1] if t[0][1] > 0 else t[0][1])
        ),
    )  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.recursive(_NUMBERS, _number_or_more, max_leaves=12))
def test_a_random_expression_has_the_value_of_the_reference(case: tuple[str, Fraction]) -> None:
    expression, expected = case
    assert value_of(expression) == expected
    assert value_of(f'"<${{{expression}}}>"') == f"<{int(expected)}>"


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=7), st.data())
def test_operators_bind_as_python_binds_them(numbers: list[int], data: st.DataObject) -> None:
    signs = [data.draw(st.sampled_from(["+", "-", "*"])) for _ in numbers[1:]]
    text = str(numbers[0]) + "".join(
        f" {sign} {number}" for sign, number in zip(signs, numbers[1:], strict=True)
    )
    assert value_of(text) == eval(text)
