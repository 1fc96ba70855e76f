"""Where a statement ends and its data begins, and what kind of answer it gives.

This is a lexer, not a parser: it knows quotes, comments, heredocs and brackets of ClickHouse's SQL and
nothing of its grammar. It only routes (inline data, output format, more than one statement); the
engine's own parser has the last word on everything, and access.py decides on what that parser says.
But it must end each token where the engine does, or what is put into a statement lands in the middle of
another one. So the quotes, blanks and minus signs of word processors, which the engine reads as its own,
are refused (`outside_quotes`); no other byte above ASCII may stand outside of quotes and comments.
Text is handled as latin-1, one character a byte, so that positions are byte positions.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

_TOKEN = re.compile(
    r"""
      (?P<space>[\s\x00]+|(?:--|\#[!\ ])[^\n]*|//[^\n]*)
    | (?P<comment>/\*)
    | (?P<heredoc>\$(?P<tag>\w*)\$.*?\$(?P=tag)\$)
    | (?P<quoted>'(?:[^'\\]|\\.|'')*(?:'|\Z)|"(?:[^"\\]|\\.|"")*(?:"|\Z)|`(?:[^`\\]|\\.|``)*(?:`|\Z))
    | (?P<word>[A-Za-z_$][\w$]*)
    | (?P<number>\d[\w.]*)
    | (?P<foreign>[\x80-\xff]+)
    | (?P<sign>.)
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
_ANNOUNCING = re.compile(r"IDENTIFIED|PASSWORD|SECRET|TOKEN|CREDENTIAL", re.IGNORECASE)
_PLAIN_LITERAL = re.compile(r"'[^'\\]+'")
_COMMENT_EDGE = re.compile(r"/\*|\*/")

#: First words of statements that answer with rows; FORMAT and INTO OUTFILE belong to these alone.
_ANSWERING = {
    "SELECT",
    "WITH",
    "FROM",
    "VALUES",
    "SHOW",
    "DESCRIBE",
    "DESC",
    "EXISTS",
    "EXPLAIN",
    "CHECK",
    "KILL",
    "(",
}

Kind = Literal["empty", "rows", "insert", "other"]


@dataclass(frozen=True)
class Token:
    """A lexeme with its byte range; `depth` counts open brackets before it."""

    kind: str
    text: str
    start: int
    end: int
    depth: int

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word

    @property
    def begins_statement(self) -> bool:
        """Whether a statement of ClickHouse's SQL may begin so: with a keyword or a bracket."""
        return self.text == "(" or (self.kind == "word" and self.text[0].isascii() and self.text[0].isalpha())


@dataclass(frozen=True)
class InsertHead:
    """`INSERT INTO t (...) FORMAT X` and where its data begins; past the end if there is none."""

    statement: str
    format: str
    data_offset: int


def tokens(text: str) -> Iterator[Token]:
    """Significant tokens of the text (no space, no comment)."""
    depth = end = 0
    while match := _TOKEN.match(text, end):
        end = match.end()
        kind = match.lastgroup or "sign"
        if kind == "comment":
            end = _comment_end(text, end)
            continue
        if kind == "tag":
            kind = "heredoc"
        if kind == "space":
            continue
        lexeme = match.group()
        if kind == "sign" and lexeme in ")]}":
            depth = max(0, depth - 1)
        yield Token(kind, lexeme, match.start(), match.end(), depth)
        if kind == "sign" and lexeme in "([{":
            depth += 1


def _comment_end(text: str, start: int) -> int:
    """Where the comment ends whose text begins here: they nest."""
    open_comments = 1
    for edge in _COMMENT_EDGE.finditer(text, start):
        open_comments += 1 if edge.group() == "/*" else -1
        if not open_comments:
            return edge.end()
    return len(text)


def outside_quotes(text: str) -> str | None:
    """The first of what is not ASCII and stands in no quotes and no comment."""
    if text.isascii():
        return None
    return next((utf8(token.text) for token in tokens(text) if token.kind == "foreign"), None)


def into_file(text: str, path: str) -> str:
    """The statement with its rows written to a file."""
    raw = text.encode("utf-8", "surrogateescape").decode("latin-1")
    _, at = output_clause(raw)
    return f"{utf8(raw[:at])}\nINTO OUTFILE '{path}' TRUNCATE {utf8(raw[at:])}"


def utf8(text: str) -> str:
    """The text as the client meant it; bytes that are no UTF-8 survive as surrogates."""
    return text.encode("latin-1").decode("utf-8", "surrogateescape")


def kind_of(text: str) -> Kind:
    """How the statement is to be run; of a WITH, whether a SELECT or an INSERT follows it."""
    first: Token | None = None
    for token in tokens(text):
        if first is None:
            first = token
            if token.is_word("INSERT"):
                return "insert"
            if token.text.upper() not in _ANSWERING:
                return "other"
            if not token.is_word("WITH"):
                return "rows"
        elif token.depth == 0 and token.is_word("INSERT"):
            return "other"
    return "empty" if first is None else "rows"


def insert_head(text: str, complete: bool) -> InsertHead | None:
    """Split an INSERT that carries data. None: it carries none (INSERT SELECT), or more text is needed.

    Where data begins is the server's rule: after FORMAT's name, past blanks and at most one newline.
    Raises ValueError for a semicolon there, which would be taken for data.
    """
    previous: Token | None = None
    for token in tokens(text):
        if token.depth == 0:
            if (
                token.is_word("SELECT")
                or token.is_word("WITH")
                or token.is_word("INFILE")
                or token.is_word("WATCH")
            ):
                return None
            if token.is_word("VALUES") and previous is not None and not previous.is_word("INTO"):
                if token.end == len(text) and not complete:
                    return None
                return InsertHead(text[: token.start], "Values", token.end)
            if previous is not None and previous.is_word("FORMAT") and token.kind == "word":
                offset = token.end
                while text[offset : offset + 1] in (" ", "\t", "\f"):
                    offset += 1
                if text[offset : offset + 1] == ";":
                    raise ValueError(text[offset : offset + 100])
                if text[offset : offset + 1] == "\r":
                    offset += 1
                if text[offset : offset + 1] == "\n":
                    offset += 1
                if offset >= len(text) and not text.endswith("\n") and not complete:
                    return None  # the name, or the line end after it, may go on in the next chunk
                return InsertHead(text[: previous.start], token.text, offset)
        previous = token
    return None


class ValuesData:
    """Watches the data of `INSERT ... VALUES`, chunk by chunk: the engine drops what follows a semicolon.

    `parameters` are the names of the query parameters in it so far.
    """

    _EDGE = re.compile(rb"['\"`;{]")
    _PARAMETER = re.compile(rb"\{\s*(\w+)\s*:")
    _LONGEST_NAME = 200

    def __init__(self) -> None:
        self.parameters: set[str] = set()
        self._quote = b""
        self._ended = False
        self._held = b""

    def feed(self, data: bytes) -> None:
        """Raises ValueError with the beginning of what stands after a semicolon."""
        data, self._held = self._held + data, b""
        at = 0
        while at < len(data):
            if self._ended:
                if rest := data[at:].strip():
                    raise ValueError(rest[:100].decode("utf-8", "replace"))
                return
            edge = (re.compile(rb"[\\" + self._quote + rb"]") if self._quote else self._EDGE).search(data, at)
            if edge is None:
                return
            at = edge.end()
            match edge.group():
                case b"\\":
                    if at == len(data):  # the character that it escapes comes with the next chunk
                        self._held = b"\\"
                    at += 1
                case b";" if not self._quote:
                    self._ended = True
                case b"{" if not self._quote:
                    if name := self._PARAMETER.match(data, at - 1):
                        self.parameters.add(name[1].decode())
                    elif len(data) - at < self._LONGEST_NAME:
                        self._held = data[at - 1 :]
                        return
                case mark:
                    self._quote = b"" if self._quote else mark


def without_semicolon(text: str) -> str:
    """The statement without what closes it; raises ValueError if a second statement follows."""
    closing: Token | None = None
    for token in tokens(text):
        if token.kind == "sign" and token.text == ";":
            closing = closing or token
        elif closing is not None:
            raise ValueError(token.text)
    return text if closing is None else text[: closing.start]


def names_outfile(text: str) -> bool:
    """Whether INTO OUTFILE stands in the text: the embedded engine would write that file."""
    previous: Token | None = None
    for token in tokens(text):
        if token.is_word("OUTFILE") and previous is not None and previous.is_word("INTO"):
            return True
        previous = token
    return False


def reads_input(text: str) -> bool:
    """Whether a SELECT reads input(), the data that a client sends along."""
    if "input" not in text.lower():
        return False
    before: list[str] = []
    for token in tokens(text):
        if token.text == "(" and before[-1:] == ["INPUT"] and before[0] in ("FROM", "JOIN", ","):
            return True
        quoted_name = token.kind == "quoted" and token.text[0] != "'"
        before = [*before[-1:], (token.text[1:-1] if quoted_name else token.text).upper()]
    return False


def parameters(text: str) -> set[str]:
    """Names of the query parameters, `{name:Type}`, in a statement."""
    found: set[str] = set()
    before: list[str] = []
    for token in tokens(text):
        if token.text == ":" and before[:1] == ["{"]:
            found.add(before[-1])
        before = [*before[-1:], token.text]
    return found


def output_clause(text: str) -> tuple[str | None, int]:
    """The FORMAT that ends a statement with rows, and the position where INTO OUTFILE may be put.

    The grammar is `query [INTO OUTFILE ...] [FORMAT name] [SETTINGS ...]`, so the last FORMAT followed
    by a name and then by nothing or SETTINGS is the one.
    """
    found: tuple[str | None, int] = (None, len(text))
    previous: Token | None = None
    candidate: tuple[str, int] | None = None
    end = 0
    for token in tokens(text):
        if candidate is not None:
            if token.depth == 0 and token.is_word("SETTINGS"):
                found = candidate
            candidate = None
        if token.depth == 0 and token.kind == "word" and previous is not None and previous.is_word("FORMAT"):
            candidate = (token.text, previous.start)
        previous, end = token, token.end
    if candidate is not None:
        return candidate
    return found if found[0] is not None else (None, end)


def killed_query(text: str) -> str | None:
    """The id in `KILL QUERY WHERE query_id = 'id' [ASYNC|SYNC]`, as drivers cancel; None for another KILL."""
    found = list(tokens(text))
    if found and found[-1].kind == "word" and found[-1].text.upper() in ("ASYNC", "SYNC"):
        found.pop()
    words = [token.text.upper() for token in found[:5]]
    if len(found) != 6 or words != ["KILL", "QUERY", "WHERE", "QUERY_ID", "="]:
        return None
    literal = found[5].text
    return literal[1:-1] if _PLAIN_LITERAL.fullmatch(literal) else None


def described_query(text: str) -> str | None:
    """`DESCRIBE (SELECT ...)` as a SELECT from what it describes; None where it describes something else."""
    found = iter(tokens(text))
    first, second = next(found, None), next(found, None)
    if first is None or not (first.is_word("DESC") or first.is_word("DESCRIBE")):
        return None
    if second is not None and second.is_word("TABLE"):
        second = next(found, None)
    return None if second is None or second.text != "(" else f"SELECT * FROM {text[second.start :]}"


def with_columns(text: str, columns: Mapping[str, str]) -> str:
    """The statement with these bare column names replaced by expressions (names in literals stay)."""
    parts: list[str] = []
    done = 0
    for token in tokens(text):
        name = token.text.strip('`"') if token.kind in ("word", "quoted") else ""
        if token.text[:1] != "'" and name in columns:
            parts += [text[done : token.start], columns[name]]
            done = token.end
    return "".join([*parts, text[done:]])


def redacted(text: str, limit: int = 300) -> str:
    """The statement for a log line: literals blanked (any may be a secret), one line, cut.

    It ends where a secret is announced, which may stand in wrong quotes or in none, and at what has no known
    end: quotes of a word processor, a heredoc that was cut.
    """
    parts: list[str] = []
    size = 0
    for token in tokens(text[: limit * 4].encode("utf-8", "surrogateescape").decode("latin-1")):
        lexeme = token.text
        if token.kind == "heredoc" or (token.kind == "quoted" and lexeme[0] != "`"):
            lexeme = "'...'"
        unsafe = token.kind == "foreign" or (token.kind == "word" and "$" in lexeme)
        if not unsafe:
            parts.append(utf8(lexeme))
            size += len(lexeme) + 1
        if unsafe or size > limit or (token.kind == "word" and _ANNOUNCING.search(lexeme)):
            parts.append("...")
            break
    return re.sub(r"\s+", " ", " ".join(parts))[: limit + 4]
