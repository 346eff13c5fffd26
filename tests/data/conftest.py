import pytest

import ih_lens as ih


@pytest.fixture(scope="session")
def text() -> list[str]:
    """Some documents with enough words for a small vocabulary; one spells the special token."""
    sentence = "the cat and a dog sat on their mat while another bird sang its longest song about many things"
    words = sentence.split()
    documents = []
    for start in range(60):
        body = " ".join(words[(start * step + step * step) % len(words)] for step in range(200))
        documents.append(f"Document {start}.\n\n{body}\n")
    documents[7] += "this <|endoftext|> is text\n"
    return documents


@pytest.fixture(scope="session")
def token_file(text, tmp_path_factory):
    """A token file of these documents."""
    return ih.tokenize_text(text, tmp_path_factory.mktemp("text") / "tokens", vocab_size=300)
