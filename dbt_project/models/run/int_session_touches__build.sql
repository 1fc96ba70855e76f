{{ session_touches(ref('int_clicks_cleaned__build')) }}
