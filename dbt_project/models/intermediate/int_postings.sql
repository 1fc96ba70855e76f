{{ postings() }}
