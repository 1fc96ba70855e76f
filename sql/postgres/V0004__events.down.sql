drop table events.event_analytics;
drop table events.events;
drop table events.venues;
drop type events.event_visibility;
drop type events.event_status;
