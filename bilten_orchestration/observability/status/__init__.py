"""The status page at /, for people: HTML made on the server, without scripts, and without a request
to anywhere.

    page.py      puts it together, from the documents of the health API and the history
    topics.py    promises in words: their group, their title, where in Dagster and in the documents they lead
    strips.py    30 days in a table, one cell per day
    plots.py     growth of what is stored, as SVG with the numbers beside it
    markup.py    escaping, marks, numbers and times for people
    style.py     the palette and the style sheet
    runbook.py   docs/*.md as pages, so that a link leads from an incident to its section

Whatever a state means is said in words beside its colour. Every text is escaped where it is put in.
"""
