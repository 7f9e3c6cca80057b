Feature: A deal, from what a buyer wants to what was paid
  Buyer and node agree over HTTP. The market makes an order of it, asks for the money and confirms the order when the
  money is there. Whoever takes part sees each step at once, and all see the same order of steps.

  Background:
    Given a buyer ada
    And a node oslo
    And an admin root

  Scenario Outline: everybody sees the same deal, over <transport>
    Given ada follows buyer:ada over <transport>
    And oslo follows node:oslo over <transport>
    And root follows admin:market over <transport>
    When ada wants "200 hours of GPU time"
    And ada follows the intent over <transport>
    And oslo quotes 1250.00
    And ada opens at 1000.00
    And oslo offers 1100.00
    And ada accepts
    And ada follows the order over <transport>
    And the provider tells that 1100.00 were paid
    Then admin:market brings the deal to root, in this order
      | type                   |
      | INTENT_CREATED         |
      | QUOTE_RECEIVED         |
      | NEGOTIATION_STARTED    |
      | NEGOTIATION_OFFER_MADE |
      | NEGOTIATION_ACCEPTED   |
      | ORDER_CREATED          |
      | PAYMENT_REQUESTED      |
      | PAYMENT_SUCCEEDED      |
      | ORDER_CONFIRMED        |
    And buyer:ada brings all of it to ada, in the same order
    And the intent brings all of it to ada, in the same order
    And node:oslo brings all of it but the INTENT_CREATED to oslo, in the same order
    And the order brings its part to ada, in the same order
      | type              |
      | ORDER_CREATED     |
      | PAYMENT_REQUESTED |
      | PAYMENT_SUCCEEDED |
      | ORDER_CONFIRMED   |
    And every event names what caused it, and all name the deal

    Examples:
      | transport |
      | WebSocket |
      | SSE       |

  Scenario: a node learns of an intent on the board
    Given oslo watches market:intents over SSE
    When ada wants "a market study"
    Then oslo learns of it

  Scenario: a payment that is declined cancels the order
    Given oslo follows node:oslo over WebSocket
    When ada and oslo agree on 80.00
    And the provider tells that the payment failed
    Then node:oslo ends with PAYMENT_FAILED, ORDER_CANCELLED

  Scenario: an order that is cancelled takes no money any more
    Given oslo follows node:oslo over WebSocket
    When ada and oslo agree on 80.00
    And ada cancels the order
    Then node:oslo ends with ORDER_CANCELLED, PAYMENT_FAILED
    And money that comes now is refused as payment_closed

  Scenario: an order that is paid cannot be cancelled
    When ada and oslo agree on 80.00
    And the provider tells that 80.00 were paid
    Then cancelling the order is refused as order_paid

  Scenario: the same command twice happens once
    Given ada follows buyer:ada over WebSocket
    When ada wants "a photo of each shelf" and says so twice
    And ada wants "a translated manual"
    Then buyer:ada ends with INTENT_CREATED, INTENT_CREATED
    And both times the answer was the same

  Scenario: what is asked for and then followed has no gap and no repetition
    When ada wants "a week of crawling"
    And oslo quotes 90.00
    And ada looks at the intent and follows it from there over WebSocket
    And ada opens at 70.00
    Then the intent ends with NEGOTIATION_STARTED

  Scenario: a stranger learns nothing, not even that there is something
    Given a buyer eve
    When ada wants "a secret study"
    And oslo quotes 90.00
    And ada opens at 70.00
    Then eve is told of the intent, the quote and the negotiation what is told of none

  Scenario: an offer that runs out ends the negotiation before everybody's eyes
    Given ada follows buyer:ada over SSE
    When ada wants "a translated manual"
    And oslo quotes 90.00
    And ada opens at 70.00 for half a second
    Then buyer:ada ends with NEGOTIATION_STARTED, NEGOTIATION_REJECTED
    And the last event says that it expired
