"""HCL2: text to values, with the place of each kept for error messages.

Read `body.py` for the interface (`parse_body`), then, in the order of the work:

    lexer.py      characters -> tokens; strings, heredocs, comments, newlines
    grammar.py    tokens -> tree, by the grammar of python-hcl2 (and why not its lexer)
    generate_tables.py  makes tables.json of that grammar, when we develop
    build.py      one callback per grammar rule, makes the nodes of tree.py
    template.py   the inside of a string: ${...} and %{...}
    tree.py       the nodes; each knows its span
    evaluate.py   nodes -> Python values
    functions/    what a file may call
    values.py     conversions between the types of HCL
"""
