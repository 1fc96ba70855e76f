-- Stays: extensions (the set-up made them, and others may use them), roles (they belong to the whole
-- server and may hold rights in another database), schema system with the history of migrations.
drop function system.mask_email(text);
drop function system.require_timezone();
drop function system.set_once();
drop function system.recovering(oid);
drop function system.refuse_truncate();
drop function system.touch_updated_at();
drop function system.track_change_by_natural_key();
drop function system.track_change();

drop schema audit;
drop schema assets;
drop schema branding;
drop schema financial;
drop schema payments;
drop schema tickets;
drop schema events;
drop schema authentication;
drop schema users;
