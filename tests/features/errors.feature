Feature: What goes wrong is told by a code, and harms nobody
  A client is told what it did wrong, by a code that a program can act on; what it had goes on.

  Background:
    Given a buyer ada
    And a node oslo

  Scenario Outline: a message that cannot be acted on is answered as <code>, and events go on
    Given ada watches buyer:ada over WebSocket
    When ada sends <message> over the open connection
    Then it is answered as <code>
    When an ORDER_CREATED of ada with oslo is published
    Then ada receives it

    Examples:
      | message                                   | code            |
      | {"op":                                    | invalid_json    |
      | []                                        | invalid_message |
      | {"op":"dance","id":7}                     | unknown_op      |
      | {"op":"subscribe","channel":"buyer:*"}    | invalid_channel |
      | {"op":"unsubscribe","channel":"order:o1"} | not_subscribed  |

  Scenario Outline: where no gap is wanted, a cursor that cannot be served is refused as <code>
    When ada watches buyer:ada over SSE without gaps from cursor <cursor> on
    Then it is refused as <code>
    And the number told is <number>

    Examples:
      | cursor             | code             | number |
      | MARKET.000000001.7 | cursor_recreated | 410    |
      | PLANS.000000001.7  | invalid_cursor   | 400    |
      | yesterday          | invalid_cursor   | 400    |
