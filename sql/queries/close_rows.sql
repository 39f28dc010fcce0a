-- Ends every cursor of this session.
CLOSE ALL
