-- By UTC day, so that bounds on created_date prune. What goes on after midnight begins with a click from
-- within the site, which is a direct touch and displaces nothing.
{{ session_touches(ref('int_clicks_cleaned')) }}
